//! The backends, the server over one of them, and one row's own directory on it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Raw, Reply, Server, Store, Version, password_hash};

/// A backend that the suite runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Fs,
    S3Ceph,
    S3Moto,
    Gcs,
    GcsUnftp,
    Azblob,
    Memory,
}

impl Place {
    pub(crate) const ALL: [Self; 7] = [
        Self::Fs,
        Self::S3Ceph,
        Self::S3Moto,
        Self::Gcs,
        Self::GcsUnftp,
        Self::Azblob,
        Self::Memory,
    ];

    /// As the documentation calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fs => "fs",
            Self::S3Ceph => "s3-ceph",
            Self::S3Moto => "s3-moto",
            Self::Gcs => "gcs",
            Self::GcsUnftp => "gcs-unftp",
            Self::Azblob => "azblob",
            Self::Memory => "memory",
        }
    }

    pub(crate) fn store(self) -> Store {
        match self {
            Self::Fs => Store::local(),
            Self::S3Ceph => Store::s3(),
            Self::S3Moto => Store::moto(),
            Self::Gcs => Store::gcs("opendal"),
            Self::GcsUnftp => Store::gcs("unftp-sbe-gcs"),
            Self::Azblob => Store::azblob(),
            Self::Memory => Store::Memory,
        }
    }

    /// Whether files and directories are the backend's own, and not keys.
    pub(crate) fn has_directories(self) -> bool {
        matches!(self, Self::Fs | Self::Memory)
    }

    /// A server with this store at `/`, with other mounts for those rows that need them.
    pub(crate) fn server(store: &Store) -> Server {
        let hash = password_hash();
        Server::with(store)
            .set("/backends/other", json!({"type": "memory"}))
            .set("/limits/recursive_listing_rows", 1000)
            .set(
                "/mounts",
                json!([
                    {"path": "/", "backend": "main", "prefix": "{home}"},
                    {"path": "/other", "backend": "other", "prefix": "{home}"},
                    {"path": "/other/deep", "backend": "main", "prefix": "deep/{home}"},
                    {"path": "/sealed", "backend": "main", "prefix": "{home}/sealed", "read_only": true},
                    {"path": "/cached", "backend": "main", "prefix": "cached/{home}",
                     "listing_cache_milliseconds": 2000},
                ]),
            )
            .user(&format!(
                "{{name: alice2, password_hash: \"{hash}\", home: alice2}}"
            ))
            .start()
    }
}

/// One row at work: a session whose working directory is the row's own.
pub(crate) struct Bench<'a> {
    pub(crate) place: Place,
    pub(crate) store: &'a Store,
    pub(crate) server: &'a Server,
    pub(crate) raw: Raw,
    /// Name of the row and of its directory.
    pub(crate) row: &'static str,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        place: Place,
        store: &'a Store,
        server: &'a Server,
        row: &'static str,
    ) -> Self {
        let mut raw = Raw::explicit(server);
        raw.expect(&format!("MKD /{row}"), 257);
        raw.expect(&format!("CWD /{row}"), 250);
        Self {
            place,
            store,
            server,
            raw,
            row,
        }
    }

    /// Another session of the same user, in the same directory.
    pub(crate) fn another(&self) -> Raw {
        let mut raw = Raw::explicit_with(self.server, &self.server.tls(Version::Tls13));
        raw.expect(&format!("CWD /{}", self.row), 250);
        raw
    }

    /// Puts a file into the row's directory as somebody else would, past the server where there is a
    /// way past it.
    pub(crate) fn put(&mut self, name: &str, content: &[u8]) {
        if self.place != Place::Memory {
            self.store
                .put(&format!("alice/{}/{name}", self.row), content);
            return;
        }
        let mut raw = self.another();
        let mut directory = String::new();
        let mut names: Vec<&str> = name.split('/').collect();
        let file = names.pop().unwrap();
        for name in names {
            directory = format!("{directory}{name}/");
            raw.command(&format!("MKD {directory}"));
        }
        raw.store(&format!("STOR {directory}{file}"), content);
    }

    /// Puts many empty files there.
    pub(crate) fn put_empty(&mut self, names: &[String]) {
        if self.place == Place::Memory {
            for name in names {
                self.raw.store(&format!("STOR {name}"), b"");
            }
            return;
        }
        let paths: Vec<String> = names
            .iter()
            .map(|name| format!("alice/{}/{name}", self.row))
            .collect();
        self.store.put_empty(&paths);
    }

    /// What is stored under a name, seen without the server where there is a way.
    pub(crate) fn stored(&mut self, name: &str) -> Option<Vec<u8>> {
        if self.place != Place::Memory {
            return self.store.bytes(&format!("alice/{}/{name}", self.row));
        }
        let mut raw = self.another();
        (raw.command(&format!("SIZE {name}")).code == 213)
            .then(|| raw.retrieve(&format!("RETR {name}")))
    }

    /// Demands that exactly these files lie in the row's directory, temporary ones of any name included,
    /// with these bytes, and that no upload is open.
    #[track_caller]
    pub(crate) fn holds(&mut self, expected: &[(&str, &[u8])]) {
        let names: BTreeSet<String> = expected
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        crate::harness::until(
            std::time::Duration::from_secs(20),
            "the row's directory holds what it must",
            || {
                let (found, open) = (self.files(), self.store.open_uploads());
                if found == names && open.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{found:?}, open {open:?}, expected {names:?}"))
                }
            },
        );
        for (name, content) in expected {
            let found = self
                .stored(name)
                .unwrap_or_else(|| panic!("{name} is gone"));
            assert!(found == *content, "{name}: {} bytes stored", found.len());
        }
    }

    /// The files in the row's directory, and whatever lies in the area for uploads.
    fn files(&mut self) -> BTreeSet<String> {
        if self.place == Place::Memory {
            let mut files = BTreeSet::new();
            walk(&mut self.another(), "", &mut files);
            return files;
        }
        let home = format!("alice/{}/", self.row);
        let files = self.store.files();
        let ours = |file: &String| {
            let hidden = file.contains(".causeway-uploads").then(|| file.clone());
            file.strip_prefix(&home).map(str::to_owned).or(hidden)
        };
        files.iter().filter_map(ours).collect()
    }

    /// Uploads with this command, or gives the refusal that came before any data.
    #[track_caller]
    pub(crate) fn try_store(&mut self, line: &str, content: &[u8]) -> Result<(), Reply> {
        let mut data = self.raw.open_data();
        let reply = self.raw.command(line);
        if reply.code != 150 {
            self.raw.expect("NOOP", 200);
            return Err(reply);
        }
        data.handshake().unwrap();
        data.write(content).unwrap();
        data.finish();
        self.raw
            .reply_within(std::time::Duration::from_mins(2))
            .expect(226);
        Ok(())
    }

    /// The lines of a listing, each ended by CR and LF.
    #[track_caller]
    pub(crate) fn listed(&mut self, line: &str) -> Vec<String> {
        let listing = String::from_utf8(self.raw.retrieve(line)).unwrap();
        assert_eq!(
            listing.matches('\n').count(),
            listing.matches("\r\n").count()
        );
        assert_eq!(
            listing.matches('\r').count(),
            listing.matches("\r\n").count()
        );
        listing.lines().map(str::to_owned).collect()
    }
}

/// Every file below a directory of a session, as the session sees it.
fn walk(raw: &mut Raw, directory: &str, files: &mut BTreeSet<String>) {
    let listing = String::from_utf8(raw.retrieve(&format!("MLSD ./{directory}"))).unwrap();
    for row in listing.lines() {
        let (facts, name) = row.split_once(' ').unwrap();
        let path = format!("{directory}{name}");
        if facts.contains("type=dir;") {
            walk(raw, &format!("{path}/"), files);
        } else {
            files.insert(path);
        }
    }
}
