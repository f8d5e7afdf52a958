//! Hashes as other programs make them.

use super::*;

/// Cheap on purpose: tests check many passwords.
pub(crate) fn cheap_hash(password: &str) -> String {
    let params = Params::new(64, 1, 1, None).unwrap();
    let salt = SaltString::encode_b64(&[7; 16]).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2
        .hash_password(password.as_bytes(), &salt)
        .unwrap()
        .to_string()
}

/// By `openssl passwd`, Perl's crypt (libxcrypt) and Python's hashlib.
#[test]
fn hashes_of_other_programs_match_their_password_only() {
    let long = "long password ".repeat(5);
    for (password, hash) in [
        ("pässword", "$1$saltsalt$QgbQ7EUpcKNQTLgSVL4qr/"),
        ("pässword", "$apr1$ab$fGW6NJ7kMZj/0UCz7DMr/."),
        (
            "pässword",
            "$5$saltsalt$rQBvFGQx3u6doxkk7cvWbhhnhS2qa1.FI.tt6NGFH66",
        ),
        (
            "pässword",
            "$6$saltsalt$rVIyJtXnL0mXUCLepstXWqeOv9JVyd7nOH8wn0BvOU5lCiAviUJLxXZ5CkPgq6XNTHV22yG4mV0IO9gqPL5WQ.",
        ),
        ("correct", "$1$saltsalt$vJGv3yjnb4q1hmqlwCuXG0"),
        ("correct", "$apr1$ab$jQDywzfYmSqeM25jB.iA.1"),
        (&long, "$1$x$0ywOWRWyEwuaZjnT3LZen."),
        (
            "correct",
            "$6$rounds=1000$abc$Ma9B73UX5r9rUFSGKAeN.1D/msDDk4alK2Gcu3uVs1vhrRZ.gq58IM2tagIcu1zHIsHCpRFr/loajmlRJ5Fgk0",
        ),
        (
            "correct",
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$QUjkMPaBf4sbNHYwkmmn3hLqqjp2GLQRDGZOH2seQW.",
        ),
        (
            "correct",
            "$2b$04$abcdefghijklmnopqrstuu2Vo3TWutZSHUfluiaHt5gekKPzGepHC",
        ),
        (
            "correct",
            "$2y$04$abcdefghijklmnopqrstuu2Vo3TWutZSHUfluiaHt5gekKPzGepHC",
        ),
        // As passlib writes it, as a PHC string, and with padding.
        (
            "correct",
            "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$mTXzbPpbIDHrttALcQfiQYM1qKU",
        ),
        (
            "correct",
            "$pbkdf2-sha256$i=1000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$ret3057Yop8mZHrE3bK2D1UFqkzljRJv3QV7eTIjEZI",
        ),
        (
            "correct",
            "$pbkdf2-sha512$1000$MDEyMzQ1Njc4OWFiY2RlZg==$PayGoZDZaCJKfdJJrsBbxzJyGXElCdpn4mx4eQgxX8O6.wq5kmAutZNICPSCYeO/R5BBdv.ZxRnKGSusXF12NQ==",
        ),
        (
            "correct",
            "$scrypt$ln=10,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$fAkYw0XhAThyvaCjYvfgz8U4ci+V/c157A6jwR0cF7U",
        ),
        ("correct", &cheap_hash("correct")),
    ] {
        let parsed = Hash::parse(hash).unwrap_or_else(|problem| panic!("{hash}: {problem}"));
        assert!(parsed.matches(password), "{hash}");
        assert!(!parsed.matches("wrong") && !parsed.matches(""), "{hash}");
        assert_eq!(format!("{parsed:?}"), "***");
        assert_eq!(
            parsed.is_weak(),
            hash.starts_with("$1$") || hash.starts_with("$apr1$")
        );
    }
}

#[test]
fn unusable_hashes_are_refused_without_repeating_them() {
    let costly = cheap_hash("x").replace("m=64", "m=4000000000");
    for (hash, problem) in [
        ("hunter2", "this is no hash"),
        ("", "this is no hash"),
        ("ab1eUpYk3SKk6", "this is no hash"),
        ("$6$", "not a hash of the form"),
        ("$argon2id", "without salt or hash"),
        (
            &cheap_hash("x").replace("argon2id", "argon2i"),
            "a hash of the kind argon2i",
        ),
        (&costly, "costs too much"),
        (
            "$2b$17$abcdefghijklmnopqrstuu2Vo3TWutZSHUfluiaHt5gekKPzGepHC",
            "costs too much",
        ),
        ("$2b$04$short", "not a bcrypt hash"),
        (
            "$scrypt$ln=30,r=8,p=1$MDEy$fAkYw0XhAThyvaCjYvfgz8U4",
            "costs too much",
        ),
        (
            "$scrypt$ln=10,r=8$MDEy$fAkYw0XhAThyvaCjYvfgz8U4",
            "without the parameter p",
        ),
        (
            "$pbkdf2-sha256$99999999$MDEy$fAkYw0XhAThyvaCjYvfgz8U4",
            "costs too much",
        ),
        (
            "$pbkdf2-sha256$0$MDEy$fAkYw0XhAThyvaCjYvfgz8U4",
            "costs too much",
        ),
        ("$pbkdf2-sha256$1000$MDEy$fA", "a hash of an unusual length"),
        ("$6$rounds=999999999$abc$x", "costs too much"),
        ("$6$saltsalt$short", "not a complete hash"),
        ("$1$saltsalt$short", "not a complete hash"),
        (
            "$y$jHT$F5Jx5fExrKuPp53xLKQ..1$QUjkMPaBf4sbNHYwkmmn3hLqqjp2GLQRDGZOH2seQW.",
            "costs too much",
        ),
        ("$3$$hash", "a hash of the kind 3"),
    ] {
        let found = Hash::parse(hash).unwrap_err();
        assert!(found.contains(problem), "{hash}: {found}");
        assert!(!found.contains("QUjk") && !found.contains("fAkY") && !found.contains("hunter"));
    }
}

#[test]
fn new_hash_is_argon2id_with_its_own_salt_and_verifies() {
    let (one, other) = (Hash::make("päss").unwrap(), Hash::make("päss").unwrap());
    assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
    assert_ne!(one, other);
    assert!(Hash::parse(&one).unwrap().matches("päss"));
    let decoy = Hash::decoy();
    assert!(matches!(decoy, Hash::Argon2id(_)));
    assert!(!decoy.matches("") && !decoy.matches("päss"));
}

#[test]
fn password_beyond_the_bound_matches_nothing() {
    let long = "x".repeat(PASSWORD_BYTES + 1);
    for password in [&long, ""] {
        let hash = Hash::parse(&cheap_hash(password)).unwrap();
        assert!(!hash.matches(&long));
    }
}
