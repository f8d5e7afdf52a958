//! suppaftp with rustls: one session. A step is a line `STEP ok`, `STEP fail WHY` or `STEP none WHY`.

use std::{
    env,
    error::Error,
    fs::{self, File, OpenOptions},
    io::{self, Cursor, Read, Seek, SeekFrom},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use suppaftp::{RustlsConnector, RustlsFtpStream, Status, types::FileType};

type Done = Result<(), Box<dyn Error>>;

const PART: usize = 2 * 1024 * 1024 + 17;

fn variable(name: &str) -> String {
    env::var(format!("MATRIX_{name}")).expect("a variable of the driver")
}

fn connector() -> Result<RustlsConnector, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(variable("CA"))?)?;
    let version = if variable("TLS") == "1.3" {
        &TLS13
    } else {
        &TLS12
    };
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(RustlsConnector::from(Arc::new(config)))
}

fn connect() -> Result<RustlsFtpStream, Box<dyn Error>> {
    let address = format!("{}:{}", variable("HOST"), variable("PORT"));
    let host = variable("HOST");
    let mut ftp = if variable("MODE") == "implicit" {
        // Behind the feature `deprecated`.
        #[allow(deprecated)]
        RustlsFtpStream::connect_secure_implicit(address, connector()?, &host)?
    } else {
        RustlsFtpStream::connect(address)?.into_secure(connector()?, &host)?
    };
    ftp.login(variable("USER"), variable("PASSWORD"))?;
    ftp.transfer_type(FileType::Binary)?;
    Ok(ftp)
}

/// The session, made anew after a failure.
struct Client(Option<RustlsFtpStream>);

impl Client {
    fn step(&mut self, name: &str, action: impl FnOnce(&mut RustlsFtpStream) -> Done) {
        let result = match &mut self.0 {
            Some(ftp) => action(ftp),
            None => connect().and_then(|ftp| action(self.0.insert(ftp))),
        };
        match result {
            Ok(()) => println!("{name} ok"),
            Err(why) => {
                println!("{name} fail {}", why.to_string().replace('\n', " "));
                self.0 = None;
            }
        }
    }
}

fn put(ftp: &mut RustlsFtpStream, local: &str, remote: &str) -> Done {
    ftp.put_file(
        remote,
        &mut File::open(format!("{}/{local}", variable("IN")))?,
    )?;
    Ok(())
}

fn get(ftp: &mut RustlsFtpStream, remote: &str, mut target: File) -> Done {
    let mut stream = ftp.retr_as_stream(remote)?;
    io::copy(&mut stream, &mut target)?;
    stream.finish()?;
    Ok(())
}

fn rest() -> io::Result<File> {
    let mut file = File::open(format!("{}/medium.bin", variable("IN")))?;
    file.seek(SeekFrom::Start(PART as u64))?;
    Ok(file)
}

fn names(name: &str, lines: &[String]) -> Done {
    // A line of MLSD and of LIST ends with the name.
    fs::write(format!("{}/{name}.txt", variable("OUT")), lines.join("\n"))?;
    Ok(())
}

fn main() {
    let out = variable("OUT");
    let mut client = Client(None);
    client.step("login", |ftp| ftp.pwd().map(drop).map_err(Into::into));
    client.step("mkdir", |ftp| Ok(ftp.mkdir("made")?));
    for name in ["small", "zero", "large"] {
        client.step(name, |ftp| {
            put(ftp, &format!("{name}.bin"), &format!("made/{name}.bin"))
        });
    }
    client.step("two", |ftp| {
        put(ftp, "medium.bin", "made/one.bin")?;
        put(ftp, "small.bin", "made/two.bin")
    });
    client.step("get", |ftp| {
        get(ftp, "large.bin", File::create(format!("{out}/large.bin"))?)
    });
    client.step("list", |ftp| names("list", &ftp.list(Some("listed"))?));
    client.step("nlst", |ftp| names("nlst", &ftp.nlst(Some("listed"))?));
    client.step("mlsd", |ftp| names("mlsd", &ftp.mlsd(Some("listed"))?));
    client.step("resume-get", |ftp| {
        ftp.resume_transfer(PART)?;
        let target = OpenOptions::new()
            .append(true)
            .open(format!("{out}/medium.bin"))?;
        get(ftp, "medium.bin", target)
    });
    client.step("resume-put", |ftp| {
        ftp.resume_transfer(PART)?;
        ftp.put_file("resume.bin", &mut rest()?)?;
        Ok(())
    });
    client.step("append", |ftp| {
        ftp.append_file("append.bin", &mut rest()?)?;
        Ok(())
    });
    client.step("rename", |ftp| Ok(ftp.rename("rename-me", "made/renamed")?));
    client.step("time", |ftp| {
        ftp.custom_command(
            format!("MFMT {} made/small.bin", variable("TIME")),
            &[Status::File],
        )?;
        Ok(())
    });
    client.step("delete", |ftp| Ok(ftp.rm("delete-me")?));
    client.step("rmdir", |ftp| Ok(ftp.rmdir("remove-me")?));
    client.step("abort", |ftp| {
        let mut stream = ftp.retr_as_stream("large.bin")?;
        io::copy(
            &mut (&mut stream).take(65_536),
            &mut Cursor::new(Vec::new()),
        )?;
        ftp.abort(stream)?;
        ftp.pwd()?;
        Ok(())
    });
    if let Some(ftp) = &mut client.0 {
        // The verdict is on the files.
        let _ = ftp.quit();
    }
}
