//! PBSZ, PROT, CCC (RFC 2228, RFC 4217 §5, §9, §10).

use super::{Site, answers, stranger};
use crate::harness::{Raw, Server, Store, Version};

items!(
    d1_pbsz_before_auth,
    d2_pbsz_after_auth,
    d3_pbsz_with_a_size,
    d4_pbsz_without_a_number,
    d5_prot_before_pbsz,
    d6_prot_p_at_any_time,
    d7_prot_c_where_policy_is_private,
    d8_prot_s_and_e,
    d9_prot_of_nothing_known,
    d10_transfer_at_level_c,
    d11_level_without_a_word_is_c,
    d12_implicit_level_without_a_word_is_p,
    d13_ccc_where_policy_forbids_it,
    d14_ccc_where_it_is_allowed,
    d15_adat_mic_conf_enc,
    d16_feat_before_and_after_auth,
);

fn d1_pbsz_before_auth() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    answers(&mut raw, &[("PBSZ 0", 503), ("PROT P", 503)]);
}

fn d2_pbsz_after_auth() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    assert_eq!(raw.expect("PBSZ 0", 200).text(), "200 PBSZ=0");
    raw.login("alice");
    assert_eq!(raw.expect("PBSZ 0", 200).text(), "200 PBSZ=0");
}

fn d3_pbsz_with_a_size() {
    let mut site = Site::new();
    assert_eq!(site.raw.expect("PBSZ 1024", 200).text(), "200 PBSZ=0");
    site.raw.expect("PROT P", 200);
}

fn d4_pbsz_without_a_number() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[("PBSZ x", 501), ("PBSZ", 501), ("PBSZ -1", 501)],
    );
}

fn d5_prot_before_pbsz() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    answers(
        &mut raw,
        &[("PROT P", 503), ("PBSZ 0", 200), ("PROT P", 200)],
    );
}

fn d6_prot_p_at_any_time() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = stranger(&server);
    raw.login("alice");
    let address = raw.epsv();
    raw.protect();
    let mut data = raw.connect_data(address);
    raw.expect("STOR file", 150);
    data.handshake().unwrap();
    data.write(b"PROT after EPSV").unwrap();
    data.finish();
    raw.reply().expect(226);
    store.assert_holds(&[("alice/file", b"PROT after EPSV")]);
}

fn d7_prot_c_where_policy_is_private() {
    let mut site = Site::new();
    site.raw.expect("PROT C", 534);
    // The level is what it was.
    site.raw.store("STOR file", b"private");
    site.store.assert_holds(&[("alice/file", b"private")]);
}

fn d8_prot_s_and_e() {
    let mut site = Site::new();
    answers(&mut site.raw, &[("PROT S", 536), ("PROT E", 536)]);
}

fn d9_prot_of_nothing_known() {
    let mut site = Site::new();
    answers(&mut site.raw, &[("PROT X", 504), ("PROT", 501)]);
}

/// 521 to each transfer command, and not a byte on the data connection.
#[track_caller]
fn nothing_moves_in_clear(raw: &mut Raw) {
    raw.send_data_in_clear();
    for line in [
        "STOR new",
        "RETR file",
        "APPE file",
        "STOU",
        "LIST",
        "NLST",
        "MLSD",
    ] {
        for passive in ["PASV", "EPSV"] {
            let address = if passive == "PASV" {
                raw.pasv()
            } else {
                raw.epsv()
            };
            let mut data = raw.connect_data(address);
            raw.expect(line, 521);
            // The next one closes the port, and with it the connection.
            raw.pasv();
            assert!(data.read_all().0.is_empty(), "{line} after {passive}");
        }
    }
}

fn d10_transfer_at_level_c() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/file", b"private");
    let mut raw = stranger(&server);
    raw.expect("PBSZ 0", 200);
    raw.login("alice");
    nothing_moves_in_clear(&mut raw);
    store.assert_holds(&[("alice/file", b"private")]);
}

fn d11_level_without_a_word_is_c() {
    let store = Store::local();
    let server = Server::start(&store);
    store.put("alice/file", b"private");
    let mut raw = stranger(&server);
    raw.login("alice");
    nothing_moves_in_clear(&mut raw);
    store.assert_holds(&[("alice/file", b"private")]);
    // Said late is said well enough.
    raw.protect();
    let mut raw = Raw::explicit(&server);
    assert_eq!(raw.retrieve("RETR file"), b"private");
}

fn d12_implicit_level_without_a_word_is_p() {
    let store = Store::local();
    let server = Server::start(&store);
    for version in [Version::Tls12, Version::Tls13] {
        let mut raw = Raw::implicit_with(&server, &server.tls(version));
        raw.login("alice");
        raw.store("STOR file", b"private");
        assert_eq!(raw.retrieve("RETR file"), b"private");
    }
}

fn d13_ccc_where_policy_forbids_it() {
    let mut site = Site::new();
    site.raw.expect("CCC", 534);
    site.raw.expect("PWD", 257);
    stranger(&site.server).expect("CCC", 534);
    Raw::clear(site.server.explicit).expect("CCC", 533);
}

fn d14_ccc_where_it_is_allowed() {
    let store = Store::local();
    let server = Server::with(&store)
        .set_listeners("ccc", &"allow".into())
        .start();
    for version in [Version::Tls12, Version::Tls13] {
        let tls = server.tls(version);
        for implicit in [false, true] {
            let mut raw = if implicit {
                let mut raw = Raw::implicit_with(&server, &tls);
                raw.login("alice");
                raw
            } else {
                Raw::explicit_with(&server, &tls)
            };
            raw.expect("CCC", 200);
            raw.leave_tls();
            answers(
                &mut raw,
                &[
                    ("PWD", 257),
                    ("AUTH TLS", 503),
                    ("PBSZ 0", 503),
                    ("PROT P", 503),
                    ("PROT C", 503),
                    ("CCC", 533),
                    ("USER alice", 503),
                ],
            );
            // The data level is what it was.
            raw.store("STOR file", b"still private");
            assert_eq!(raw.retrieve("RETR file"), b"still private");
            raw.expect("QUIT", 221);
        }
    }
    store.assert_holds(&[("alice/file", b"still private")]);
    // Who has not logged in keeps the password inside.
    stranger(&server).expect("CCC", 534);
    Raw::clear(server.explicit).expect("CCC", 533);
    let features = stranger(&server).expect("FEAT", 211);
    assert!(features.lines.contains(&" CCC".to_owned()), "{features}");
}

fn d15_adat_mic_conf_enc() {
    let mut site = Site::new();
    answers(
        &mut site.raw,
        &[
            ("ADAT x", 503),
            ("MIC x", 533),
            ("CONF x", 533),
            ("ENC x", 533),
        ],
    );
}

fn d16_feat_before_and_after_auth() {
    let store = Store::local();
    let server = Server::start(&store);
    let mut raw = Raw::clear(server.explicit);
    let clear = raw.expect("FEAT", 211);
    raw.expect("AUTH TLS", 234);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    for reply in [clear, raw.expect("FEAT", 211)] {
        for feature in [" AUTH TLS", " PBSZ", " PROT"] {
            assert!(reply.lines.iter().any(|line| line == feature), "{reply}");
        }
        assert!(!reply.lines.iter().any(|line| line == " CCC"), "{reply}");
    }
}
