//! What only a local directory can get wrong.

use std::os::unix::{ffi::OsStrExt, fs::symlink};

use super::*;
use crate::{config::FsBackend, store::LocalStore};

#[tokio::test]
async fn links_that_lead_outside_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    let lab = Lab::local();
    let store = lab.store();
    symlink(outside.path(), lab.directory().join("dir")).unwrap();
    symlink(outside.path().join("secret"), lab.directory().join("file")).unwrap();
    symlink("../../../../etc/passwd", lab.directory().join("relative")).unwrap();
    for name in ["dir", "file", "relative", "dir/secret"] {
        fails_with(store.stat(&key(name)).await, ErrorKind::PermissionDenied);
        fails_with(
            store.write(&key(name), NewFile::default()).await,
            ErrorKind::PermissionDenied,
        );
        fails_with(
            store.remove_file(&key(name)).await,
            ErrorKind::PermissionDenied,
        );
        fails_with(
            store.rename(&key(name), &key("mine"), false).await,
            ErrorKind::PermissionDenied,
        );
    }
    put(store, "mine", &bytes(3)).await;
    fails_with(
        store.rename(&key("mine"), &key("dir/mine"), false).await,
        ErrorKind::PermissionDenied,
    );
    fails_with(
        store.make_directory(&key("dir/new")).await,
        ErrorKind::PermissionDenied,
    );
    fails_with(
        store.list(&key("dir")).await.map(drop),
        ErrorKind::PermissionDenied,
    );
    assert_eq!(names(store, "").await, [("mine".into(), Kind::File)]);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(
        std::fs::read(outside.path().join("secret")).unwrap(),
        b"secret"
    );
}

#[tokio::test]
async fn links_that_stay_inside_are_followed_but_never_written_through() {
    let lab = Lab::local();
    let store = lab.store();
    mkdir(store, "real").await;
    put(store, "real/file", &bytes(3)).await;
    symlink("real", lab.directory().join("alias")).unwrap();
    symlink("real/file", lab.directory().join("link")).unwrap();
    assert_eq!(get(store, "alias/file").await, bytes(3));
    assert_eq!(get(store, "link").await, bytes(3));
    assert_eq!(names(store, "").await.len(), 3);
    put(store, "link", &bytes(5)).await;
    assert_eq!(
        get(store, "real/file").await,
        bytes(3),
        "the link was replaced, not its target"
    );
}

#[tokio::test]
async fn special_files_are_neither_shown_nor_opened() {
    let lab = Lab::local();
    let store = lab.store();
    let fifo = lab.directory().join("fifo");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(lab.directory().join("socket")).unwrap();
    symlink("fifo", lab.directory().join("link")).unwrap();
    put(store, "file", &bytes(3)).await;
    let stat = store.stat(&key("file")).await.unwrap();
    for name in ["fifo", "socket", "link"] {
        fails_with(store.stat(&key(name)).await, ErrorKind::PermissionDenied);
        fails_with(
            store.write(&key(name), NewFile::default()).await,
            ErrorKind::PermissionDenied,
        );
        assert!(get_from(store, name, 0, &stat).await.is_err());
    }
    assert_eq!(names(store, "").await, [("file".into(), Kind::File)]);
}

#[tokio::test]
async fn names_that_cannot_be_served_are_left_out() {
    let lab = Lab::local();
    for name in [
        &b"not utf-8 \xff"[..],
        b"line\nfeed",
        b"carriage\rreturn",
        b"fine",
    ] {
        std::fs::write(lab.directory().join(std::ffi::OsStr::from_bytes(name)), b"").unwrap();
    }
    assert_eq!(names(lab.store(), "").await, [("fine".into(), Kind::File)]);
}

#[tokio::test]
async fn the_upload_area_is_hidden() {
    let lab = Lab::local();
    let store = lab.store();
    put(store, "file", &bytes(3)).await;
    for name in [".causeway-uploads", ".causeway-uploads/x"] {
        fails_with(store.stat(&key(name)).await, ErrorKind::NotFound);
        fails_with(store.list(&key(name)).await.map(drop), ErrorKind::NotFound);
        fails_with(store.remove_file(&key(name)).await, ErrorKind::NotFound);
        fails_with(
            store.remove_directory(&key(name)).await,
            ErrorKind::NotFound,
        );
        fails_with(
            store.rename(&key(name), &key("x"), false).await,
            ErrorKind::NotFound,
        );
        fails_with(
            store.write(&key(name), NewFile::default()).await,
            ErrorKind::NameNotAllowed,
        );
        fails_with(
            store.make_directory(&key(name)).await,
            ErrorKind::NameNotAllowed,
        );
        fails_with(
            store.rename(&key("file"), &key(name), false).await,
            ErrorKind::NameNotAllowed,
        );
    }
    mkdir(store, "d").await;
    put(store, "d/.causeway-uploads", &bytes(1)).await;
}

#[tokio::test]
async fn a_start_sweeps_only_what_no_process_writes() {
    let lab = Lab::local();
    let area = lab.directory().join(".causeway-uploads");
    std::fs::write(area.join("stale"), b"half").unwrap();
    let mut running = lab
        .store()
        .write(&key("file"), NewFile::default())
        .await
        .unwrap();
    running.write(vec![bytes(10)]).await.unwrap();
    LocalStore::open(&FsBackend {
        durability: crate::config::Durability::Full,
        free_space_bytes: 0,
        set_time: crate::config::SetTime::Store,
        root: lab.directory().to_owned(),
    })
    .unwrap();
    assert!(!area.join("stale").exists());
    running.commit(Vec::new()).await.unwrap();
    assert_eq!(get(lab.store(), "file").await, bytes(10));
    lab.assert_nothing_left().await;
}

#[tokio::test]
async fn a_dropped_upload_leaves_nothing() {
    let lab = Lab::local();
    let mut upload = lab
        .store()
        .write(&key("file"), NewFile::default())
        .await
        .unwrap();
    upload.write(vec![bytes(10)]).await.unwrap();
    drop(upload);
    lab.assert_nothing_left().await;
}

#[tokio::test]
async fn a_file_replaced_during_a_read_is_served_to_its_end() {
    let lab = Lab::local();
    let store = lab.store();
    let old = bytes(3 << 20);
    put(store, "file", &old).await;
    let stat = store.stat(&key("file")).await.unwrap();
    let mut chunks = store.read(&key("file"), 0, &stat).await.unwrap();
    let mut read = chunks.try_next().await.unwrap().unwrap().to_vec();
    put(store, "file", &bytes(5)).await;
    while let Some(chunk) = chunks.try_next().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == old);
}

#[tokio::test]
async fn a_file_written_in_place_during_a_read_ends_with_changed() {
    let lab = Lab::local();
    let store = lab.store();
    put(store, "file", &bytes(3 << 20)).await;
    let stat = store.stat(&key("file")).await.unwrap();
    let mut chunks = store.read(&key("file"), 0, &stat).await.unwrap();
    chunks.try_next().await.unwrap();
    std::fs::write(lab.directory().join("file"), bytes(2 << 20)).unwrap();
    let rest: Result<Vec<Bytes>> = chunks.try_collect().await;
    fails_with(rest, ErrorKind::Changed);
}

#[tokio::test]
async fn times_are_stored_ignored_or_refused() {
    use crate::config::SetTime;
    use std::time::{Duration, SystemTime};

    let outside = tempfile::tempdir().unwrap();
    let lab = Lab::local();
    let store = lab.store();
    put(store, "file", &bytes(3)).await;
    mkdir(store, "directory").await;
    symlink(outside.path(), lab.directory().join("link")).unwrap();
    let before = std::fs::metadata(outside.path())
        .unwrap()
        .modified()
        .unwrap();
    for time in [
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_577_934_245_250),
        SystemTime::UNIX_EPOCH - Duration::from_secs(1),
    ] {
        for name in ["file", "directory"] {
            store.set_modified(&key(name), time).await.unwrap();
            let stat = store.stat(&key(name)).await.unwrap();
            assert_eq!(stat.modified, Some(time), "{name}");
        }
        fails_with(
            store.set_modified(&key("missing"), time).await,
            ErrorKind::NotFound,
        );
        fails_with(
            store.set_modified(&key("link"), time).await,
            ErrorKind::PermissionDenied,
        );
        fails_with(
            store.set_modified(&key(".causeway-uploads"), time).await,
            ErrorKind::NotFound,
        );
    }
    let after = std::fs::metadata(outside.path())
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(before, after);
    assert!(store.available().await.unwrap().unwrap() > 0);
    let stat = store.stat(&key("file")).await.unwrap();
    for (set_time, works) in [(SetTime::Ignore, true), (SetTime::Refuse, false)] {
        let other = LocalStore::open(&FsBackend {
            durability: crate::config::Durability::Full,
            free_space_bytes: 0,
            root: lab.directory().to_owned(),
            set_time,
        })
        .unwrap();
        assert_eq!(other.abilities().set_modified, works);
        let answer = other.set_modified(&key("file"), SystemTime::now()).await;
        assert_eq!(answer.is_ok(), works);
        assert_eq!(store.stat(&key("file")).await.unwrap(), stat);
    }
}
