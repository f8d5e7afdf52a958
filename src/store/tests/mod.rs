//! One behaviour suite over every store: a local directory, the S3 stand-in `s3s-fs` in this process,
//! and a real gateway where `CAUSEWAY_TEST_S3` names one (`endpoint,access,secret`, as `tests/lab/rgw.sh` prints it).
//!
//! What a stand-in cannot do is said by [`Lab::can`] and printed, never skipped in silence.

mod lab;
mod local;
mod object;
mod stream;
mod together;

use bytes::Bytes;
use futures_util::TryStreamExt;

use self::lab::{Lab, Need, key, on_every_store};
use super::{Base, ErrorKind, Kind, NewFile, Result, Stat, Store, Upload};

/// Bytes that differ at every place, so that an exchange of parts shows.
fn bytes(count: usize) -> Bytes {
    (0..count)
        .map(|at| u8::try_from((at % 251 + at / 65_521) % 256).unwrap())
        .collect::<Vec<_>>()
        .into()
}

async fn put_onto(store: &dyn Store, name: &str, base: Base, content: &Bytes) -> Result<Stat> {
    finish(store.write(&key(name), base.into()).await?, content).await
}

/// Sends `content` in parts and commits.
async fn finish(mut upload: Box<dyn Upload>, content: &Bytes) -> Result<Stat> {
    let sizes = upload.part_sizes();
    let mut rest = content.clone();
    for index in 0.. {
        let bytes = sizes.of(index);
        if rest.len() <= bytes {
            break;
        }
        let part = chunks(rest.split_to(bytes));
        if let Err(error) = upload.write(part).await {
            upload.abort().await;
            return Err(error);
        }
    }
    upload.commit(chunks(rest)).await
}

/// Several chunks to a part, as they come from a data connection.
fn chunks(mut part: Bytes) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    while !part.is_empty() {
        chunks.push(part.split_to(part.len().min(100_000)));
    }
    chunks
}

async fn put(store: &dyn Store, name: &str, content: &Bytes) -> Stat {
    put_onto(store, name, Base::Empty, content)
        .await
        .expect(name)
}

async fn get_from(store: &dyn Store, name: &str, offset: u64, stat: &Stat) -> Result<Bytes> {
    let chunks: Vec<Bytes> = store
        .read(&key(name), offset, stat)
        .await?
        .try_collect()
        .await?;
    Ok(chunks.concat().into())
}

async fn get(store: &dyn Store, name: &str) -> Bytes {
    let stat = store.stat(&key(name)).await.expect(name);
    get_from(store, name, 0, &stat).await.expect(name)
}

async fn names(store: &dyn Store, directory: &str) -> Vec<(String, Kind)> {
    let entries = store.list(&key(directory)).await.expect(directory);
    let mut names: Vec<_> = entries
        .map_ok(|entry| (entry.name, entry.stat.kind))
        .try_collect()
        .await
        .unwrap();
    names.sort_by(|one, other| one.0.cmp(&other.0));
    names
}

async fn mkdir(store: &dyn Store, name: &str) {
    store.make_directory(&key(name)).await.expect(name);
}

#[track_caller]
fn fails_with<T>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(_) => panic!("succeeded where {kind:?} was due"),
        Err(error) => assert_eq!(
            error.kind(),
            kind,
            "{error} {:?}",
            std::error::Error::source(&error)
        ),
    }
}

async fn kind_of(store: &dyn Store, name: &str) -> Option<Kind> {
    match store.stat(&key(name)).await {
        Ok(stat) => Some(stat.kind),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

on_every_store! {
    async fn a_file_comes_back_as_it_went(lab) {
        let store = lab.store();
        for size in [0, 1, 5_000, (1 << 20) - 1, 1 << 20, (5 << 20) + 1, (17 << 20) + 3] {
            let content = bytes(size);
            let committed = put(store, "file", &content).await;
            assert_eq!((committed.kind, committed.size), (Kind::File, size as u64));
            let stat = store.stat(&key("file")).await.unwrap();
            assert_eq!(stat.size, size as u64);
            assert_eq!(stat.version, committed.version, "the commit says what stands there");
            assert!(stat.modified.is_some());
            assert_eq!(get(store, "file").await, content, "{size} bytes");
        }
        lab.assert_nothing_left().await;
    }

    async fn reading_begins_at_an_offset(lab) {
        let store = lab.store();
        let content = bytes(700_000);
        put(store, "file", &content).await;
        let stat = store.stat(&key("file")).await.unwrap();
        for offset in [0, 1, 262_144, 699_999, 700_000] {
            let read = get_from(store, "file", offset as u64, &stat).await.unwrap();
            assert_eq!(read, content.slice(offset..));
        }
        fails_with(get_from(store, "file", 700_001, &stat).await, ErrorKind::OffsetBeyondEnd);
    }

    async fn reading_serves_one_generation(lab) {
        if !lab.can(Need::Conditions) { return }
        let store = lab.store();
        put(store, "file", &bytes(100)).await;
        let old = store.stat(&key("file")).await.unwrap();
        put(store, "file", &bytes(101)).await;
        fails_with(get_from(store, "file", 0, &old).await, ErrorKind::Changed);
        fails_with(get_from(store, "missing", 0, &old).await, ErrorKind::NotFound);
    }

    async fn an_aborted_upload_leaves_nothing(lab) {
        let store = lab.store();
        put(store, "file", &bytes(10)).await;
        for parts in 0..3 {
            let mut upload = store.write(&key("file"), NewFile::default()).await.unwrap();
            for _ in 0..parts {
                let part = bytes(upload.part_sizes().of(0));
                upload.write(vec![part]).await.unwrap();
            }
            upload.abort().await;
            assert_eq!(get(store, "file").await, bytes(10), "the old file stays");
            lab.assert_nothing_left().await;
        }
        let upload = store.write(&key("new"), NewFile::default()).await.unwrap();
        upload.abort().await;
        assert_eq!(kind_of(store, "new").await, None);
    }

    async fn an_upload_is_invisible_until_its_commit(lab) {
        let store = lab.store();
        let mut upload = store.write(&key("file"), NewFile::default()).await.unwrap();
        let part = bytes(upload.part_sizes().of(0));
        upload.write(vec![part.clone()]).await.unwrap();
        upload.write(vec![part.clone()]).await.unwrap();
        assert_eq!(kind_of(store, "file").await, None);
        assert_eq!(names(store, "").await, []);
        upload.commit(Vec::new()).await.unwrap();
        assert_eq!(get(store, "file").await, [part.clone(), part].concat());
    }

    async fn of_two_uploads_of_one_name_the_last_commit_wins(lab) {
        let store = lab.store();
        let mut one = store.write(&key("file"), NewFile::default()).await.unwrap();
        let mut two = store.write(&key("file"), NewFile::default()).await.unwrap();
        one.write(vec![bytes(10)]).await.unwrap();
        two.write(vec![bytes(20)]).await.unwrap();
        two.commit(Vec::new()).await.unwrap();
        one.commit(Vec::new()).await.unwrap();
        assert_eq!(get(store, "file").await, bytes(10));
        lab.assert_nothing_left().await;
    }

    async fn append_and_restart_keep_the_first_bytes(lab) {
        let store = lab.store();
        let sizes = [
            (0, 0),
            (10, 10),
            (10, 4),
            (6 << 20, 1 << 20),
            (6 << 20, 6 << 20),
            (20 << 20, (5 << 20) + 1),
        ];
        for (size, kept) in sizes {
            let old = bytes(size);
            for tail in [0, 3, 9 << 20] {
                put(store, "file", &old).await;
                let version = store.stat(&key("file")).await.unwrap().version;
                let tail = bytes(tail);
                let base = Base::Present { bytes: kept as u64, version };
                let wanted = [old.slice(..kept), tail.clone()].concat();
                let committed = put_onto(store, "file", base, &tail).await.unwrap();
                assert_eq!(committed.size, wanted.len() as u64);
                assert!(get(store, "file").await == wanted, "{kept} of {size} and {}", tail.len());
            }
        }
        lab.assert_nothing_left().await;
    }

    async fn append_to_a_changed_file_is_refused(lab) {
        let store = lab.store();
        put(store, "file", &bytes(10)).await;
        let version = store.stat(&key("file")).await.unwrap().version;
        let stale = Base::Present { bytes: 10, version: version.clone() };
        let beyond = Base::Present { bytes: 11, version };
        fails_with(put_onto(store, "file", beyond, &bytes(1)).await, ErrorKind::OffsetBeyondEnd);
        put(store, "file", &bytes(12)).await;
        fails_with(put_onto(store, "file", stale.clone(), &bytes(1)).await, ErrorKind::Changed);
        fails_with(put_onto(store, "missing", stale, &bytes(1)).await, ErrorKind::NotFound);
        lab.assert_nothing_left().await;
    }

    async fn a_file_changed_during_an_append_is_not_overwritten(lab) {
        let store = lab.store();
        put(store, "file", &bytes(10)).await;
        let version = store.stat(&key("file")).await.unwrap().version;
        let base = Base::Present { bytes: 10, version };
        let mut upload = store.write(&key("file"), base.into()).await.unwrap();
        upload.write(vec![bytes(5)]).await.unwrap();
        put(store, "file", &bytes(12)).await;
        fails_with(upload.commit(Vec::new()).await, ErrorKind::Changed);
        assert_eq!(get(store, "file").await, bytes(12));
        lab.assert_nothing_left().await;
    }

    async fn a_directory_lives_from_its_making_to_its_removal(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "d").await;
        assert_eq!(kind_of(store, "d").await, Some(Kind::Directory));
        fails_with(store.make_directory(&key("d")).await, ErrorKind::AlreadyExists);
        fails_with(store.make_directory(&key("missing/d")).await, ErrorKind::NotFound);
        fails_with(store.make_directory(&key("")).await, ErrorKind::AlreadyExists);
        put(store, "file", &bytes(1)).await;
        fails_with(store.make_directory(&key("file")).await, ErrorKind::AlreadyExists);
        mkdir(store, "d/e").await;
        fails_with(store.remove_directory(&key("d")).await, ErrorKind::NotEmpty);
        store.remove_directory(&key("d/e")).await.unwrap();
        assert_eq!(kind_of(store, "d").await, Some(Kind::Directory));
        store.remove_directory(&key("d")).await.unwrap();
        assert_eq!(kind_of(store, "d").await, None);
        fails_with(store.remove_directory(&key("d")).await, ErrorKind::NotFound);
        fails_with(store.remove_directory(&key("file")).await, ErrorKind::NotADirectory);
        fails_with(store.remove_directory(&key("")).await, ErrorKind::PermissionDenied);
    }

    async fn siblings_survive_the_removal_of_a_directory(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "foo").await;
        mkdir(store, "foobar").await;
        put(store, "foobar/file", &bytes(2)).await;
        put(store, "foo.txt", &bytes(3)).await;
        put(store, "foo/file", &bytes(4)).await;
        assert_eq!(names(store, "foo").await, [("file".into(), Kind::File)]);
        fails_with(store.remove_directory(&key("foo")).await, ErrorKind::NotEmpty);
        store.remove_file(&key("foo/file")).await.unwrap();
        store.remove_directory(&key("foo")).await.unwrap();
        assert_eq!(get(store, "foobar/file").await, bytes(2));
        assert_eq!(get(store, "foo.txt").await, bytes(3));
        assert_eq!(
            names(store, "").await,
            [("foo.txt".into(), Kind::File), ("foobar".into(), Kind::Directory)]
        );
    }

    async fn deleting_a_file_says_what_was_there(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "d").await;
        put(store, "d/file", &bytes(1)).await;
        fails_with(store.remove_file(&key("missing")).await, ErrorKind::NotFound);
        fails_with(store.remove_file(&key("d")).await, ErrorKind::IsADirectory);
        store.remove_file(&key("d/file")).await.unwrap();
        fails_with(store.remove_file(&key("d/file")).await, ErrorKind::NotFound);
        assert_eq!(kind_of(store, "d").await, Some(Kind::Directory), "the directory outlives it");
        assert_eq!(names(store, "d").await, []);
    }

    async fn uploads_need_a_directory_and_a_free_name(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "d").await;
        fails_with(store.write(&key("missing/file"), NewFile::default()).await, ErrorKind::NotFound);
        fails_with(store.write(&key("d"), NewFile::default()).await, ErrorKind::IsADirectory);
        fails_with(store.write(&key(""), NewFile::default()).await, ErrorKind::IsADirectory);
        lab.assert_nothing_left().await;
    }

    async fn listings_show_files_and_directories(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        assert_eq!(names(store, "").await, []);
        mkdir(store, "d").await;
        mkdir(store, "d/e").await;
        put(store, "d/e/deep", &bytes(1)).await;
        put(store, "d/file", &bytes(7)).await;
        put(store, "d/.hidden", &bytes(1)).await;
        assert_eq!(
            names(store, "d").await,
            [
                (".hidden".into(), Kind::File),
                ("e".into(), Kind::Directory),
                ("file".into(), Kind::File)
            ]
        );
        let entries: Vec<_> =
            store.list(&key("d")).await.unwrap().try_collect().await.unwrap();
        let file = entries.into_iter().find(|entry| entry.name == "file").unwrap();
        assert_eq!(file.stat, store.stat(&key("d/file")).await.unwrap(), "one truth for both");
        fails_with(store.list(&key("missing")).await.map(drop), ErrorKind::NotFound);
        fails_with(store.list(&key("d/file")).await.map(drop), ErrorKind::NotADirectory);
    }

    async fn a_listing_of_many_entries_is_complete(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "many").await;
        let count = lab.many();
        lab.fill("many", count).await;
        let names = names(store, "many").await;
        assert_eq!(names.len(), count);
        assert!(names.windows(2).all(|pair| pair[0].0 < pair[1].0), "no name twice");
        let first = store.list(&key("many")).await.unwrap();
        drop(first); // A client that went away.
    }

    async fn odd_names_survive_the_round_trip(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "odd").await;
        let odd = [
            " leading", "in side", "100%", "%2e%2e", "a+b", "#hash", "q?x=1&y", "\u{e4}\u{1f600}",
            "semi;colon", "a:b", "a\\b", "~", "*", "-x", "\"quoted\"", "CON", "...", "it's", "=", "<&>",
        ];
        let mut wanted = Vec::new();
        for name in odd {
            let path = format!("odd/{name}");
            put(store, &path, &bytes(name.len())).await;
            assert_eq!(get(store, &path).await, bytes(name.len()), "{name:?}");
            mkdir(store, &format!("{path}.d")).await;
            wanted.extend([((*name).to_owned(), Kind::File), (format!("{name}.d"), Kind::Directory)]);
        }
        wanted.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(names(store, "odd").await, wanted);
        for (name, kind) in wanted {
            let path = format!("odd/{name}");
            match kind {
                Kind::File => {
                    store.rename(&key(&path), &key("odd/renamed"), false).await.expect(&name);
                    store.rename(&key("odd/renamed"), &key(&path), false).await.expect(&name);
                    store.remove_file(&key(&path)).await.expect(&name);
                }
                Kind::Directory => store.remove_directory(&key(&path)).await.expect(&name),
            }
        }
        assert_eq!(names(store, "odd").await, []);
    }

    async fn overlong_names_are_refused(lab) {
        let store = lab.store();
        let long = "n".repeat(1100);
        fails_with(store.write(&key(&long), NewFile::default()).await, ErrorKind::NameNotAllowed);
        fails_with(store.make_directory(&key(&long)).await, ErrorKind::NameNotAllowed);
    }

    async fn a_rename_moves_all_bytes(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "in").await;
        mkdir(store, "out").await;
        let content = bytes(20 << 20);
        put(store, "in/file.part", &content).await;
        put(store, "out/file", &bytes(3)).await;
        store.rename(&key("in/file.part"), &key("out/file"), false).await.unwrap();
        assert!(get(store, "out/file").await == content);
        assert_eq!(kind_of(store, "in/file.part").await, None);
        assert_eq!(kind_of(store, "in").await, Some(Kind::Directory), "the directory outlives it");
        store.rename(&key("out/file"), &key("out/file"), false).await.unwrap();
        assert!(get(store, "out/file").await == content, "onto itself");
        lab.assert_nothing_left().await;
    }

    async fn a_rename_refuses_what_it_would_damage(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "d").await;
        put(store, "file", &bytes(3)).await;
        fails_with(store.rename(&key("missing"), &key("x"), false).await, ErrorKind::NotFound);
        fails_with(store.rename(&key("file"), &key("d"), false).await, ErrorKind::IsADirectory);
        fails_with(store.rename(&key("file"), &key("missing/x"), false).await, ErrorKind::NotFound);
        fails_with(store.rename(&key("file"), &key(""), false).await, ErrorKind::IsADirectory);
        assert_eq!(get(store, "file").await, bytes(3));
        assert_eq!(kind_of(store, "d").await, Some(Kind::Directory));
    }

    async fn a_rename_over_nothing_replaces_nothing(lab) {
        let store = lab.store();
        for size in [0, 10, (5 << 20) + 1] {
            let (content, other) = (bytes(size), bytes(7));
            put(store, "file", &content).await;
            put(store, "taken", &other).await;
            let refused = store.rename(&key("file"), &key("taken"), true).await;
            fails_with(refused, ErrorKind::AlreadyExists);
            assert_eq!(get(store, "file").await, content);
            assert_eq!(get(store, "taken").await, other);
            store.rename(&key("file"), &key("free"), true).await.unwrap();
            assert_eq!(kind_of(store, "file").await, None);
            assert_eq!(get(store, "free").await, content);
            store.remove_file(&key("free")).await.unwrap();
        }
        lab.assert_nothing_left().await;
    }

    async fn a_directory_is_renamed_or_refused(lab) {
        if !lab.can(Need::Directories) { return }
        let store = lab.store();
        mkdir(store, "d").await;
        put(store, "d/file", &bytes(3)).await;
        let renamed = store.rename(&key("d"), &key("e"), false).await;
        if lab.can(Need::RenameDirectory) {
            renamed.unwrap();
            assert_eq!(get(store, "e/file").await, bytes(3));
            mkdir(store, "f").await;
            fails_with(store.rename(&key("e"), &key("f"), false).await, ErrorKind::IsADirectory);
            put(store, "g", &bytes(1)).await;
            fails_with(store.rename(&key("e"), &key("g"), false).await, ErrorKind::NotADirectory);
        } else {
            fails_with(renamed, ErrorKind::Unsupported);
            assert_eq!(get(store, "d/file").await, bytes(3));
        }
    }
}
