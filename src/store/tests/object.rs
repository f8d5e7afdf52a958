//! What only a bucket can get wrong, on the real gateway: keys that others put there, metadata, and
//! an answer that is lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;

#[tokio::test]
async fn a_directory_hides_an_object_of_its_name() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    let store = lab.store();
    lab.script("[s3.put_object(Bucket=bucket, Key=k, Body=b'x') for k in ('a', 'a!b', 'a/b')]")
        .await;
    assert_eq!(kind_of(store, "a").await, Some(Kind::Directory));
    assert_eq!(
        names(store, "").await,
        [("a".into(), Kind::Directory), ("a!b".into(), Kind::File)]
    );
    fails_with(store.remove_file(&key("a")).await, ErrorKind::IsADirectory);
    fails_with(
        store.write(&key("a"), NewFile::default()).await,
        ErrorKind::IsADirectory,
    );
}

#[tokio::test]
async fn a_directory_without_marker_outlives_its_last_file() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    let store = lab.store();
    lab.script(
        "[s3.put_object(Bucket=bucket, Key=k, Body=b'x') for k in ('a/b/c', 'd/e/', 'f/g', 'h/i')]",
    )
    .await;
    for name in ["a", "a/b", "d", "f"] {
        assert_eq!(kind_of(store, name).await, Some(Kind::Directory), "{name}");
    }
    store.remove_file(&key("a/b/c")).await.unwrap();
    store.remove_directory(&key("d/e")).await.unwrap();
    store.rename(&key("f/g"), &key("h/g")).await.unwrap();
    for name in ["a", "a/b", "d", "f"] {
        assert_eq!(kind_of(store, name).await, Some(Kind::Directory), "{name}");
    }
    assert_eq!(names(store, "f").await, []);
}

#[tokio::test]
async fn foreign_keys_that_cannot_be_served_are_left_out() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    let store = lab.store();
    lab.script(
        "[s3.put_object(Bucket=bucket, Key=k, Body=b'x') for k in ('d//x', 'd/a\\rb', 'd/e\\nf', 'd/fine', 'd/ lead')]",
    )
    .await;
    assert_eq!(
        names(store, "d").await,
        [(" lead".into(), Kind::File), ("fine".into(), Kind::File)]
    );
    fails_with(store.stat(&key("d//x")).await, ErrorKind::NameNotAllowed);
    fails_with(store.stat(&key("d/../x")).await, ErrorKind::NameNotAllowed);
}

#[tokio::test]
async fn a_prefix_keeps_its_neighbours_apart() {
    let Some(lab) = Lab::gateway_below("home/bob").await else {
        return;
    };
    let store = lab.store();
    lab.script("s3.put_object(Bucket=bucket, Key='home/bob2/x', Body=b'x')")
        .await;
    assert_eq!(names(store, "").await, []);
    put(store, " leading", &bytes(3)).await;
    mkdir(store, "d").await;
    put(store, "d/file", &bytes(4)).await;
    assert_eq!(
        names(store, "").await,
        [
            (" leading".into(), Kind::File),
            ("d".into(), Kind::Directory)
        ]
    );
    let keys = lab
        .script("print([o['Key'] for o in s3.list_objects_v2(Bucket=bucket)['Contents']])")
        .await;
    assert_eq!(
        keys,
        "['home/bob/ leading', 'home/bob/d/', 'home/bob/d/file', 'home/bob2/x']"
    );
    store.remove_file(&key(" leading")).await.unwrap();
    store.remove_file(&key("d/file")).await.unwrap();
    store.remove_directory(&key("d")).await.unwrap();
    assert_eq!(names(store, "").await, []);
}

#[tokio::test]
async fn metadata_survives_rename_and_append() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    let store = lab.store();
    lab.script(
        "s3.put_object(Bucket=bucket, Key='a', Body=b'x' * (6 << 20), ContentType='text/csv', Metadata={'owner': 'bob'})",
    )
    .await;
    let metadata = |name: &str| {
        format!(
            "o = s3.head_object(Bucket=bucket, Key='{name}'); print(o['ContentType'], o['Metadata'].get('owner'))"
        )
    };
    store.rename(&key("a"), &key("b")).await.unwrap();
    assert_eq!(lab.script(&metadata("b")).await, "text/csv bob");
    let stat = store.stat(&key("b")).await.unwrap();
    let base = Base::Present {
        bytes: stat.size,
        version: stat.version,
    };
    put_onto(store, "b", base, &bytes(100)).await.unwrap();
    assert_eq!(lab.script(&metadata("b")).await, "text/csv bob");
    assert_eq!(store.stat(&key("b")).await.unwrap().size, (6 << 20) + 100);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_recognised() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    let swallowed = Arc::new(AtomicBool::new(false));
    let (store, _proxy) = lab
        .behind_proxy(|upstream| swallow_commit(upstream, swallowed.clone()))
        .await;
    let content = bytes(11 << 20);
    let committed = put(store.as_ref(), "file", &content).await;
    assert!(swallowed.load(Ordering::Relaxed), "the answer was lost");
    assert_eq!(committed.size, 11 << 20);
    assert!(get(lab.store(), "file").await == content);
    lab.assert_nothing_left().await;
}

/// Passes everything on, but the first answer to a `CompleteMultipartUpload`.
async fn swallow_commit(upstream: String, swallowed: Arc<AtomicBool>) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&upstream).await.unwrap();
            connections.spawn(pass(client, server, swallowed.clone()));
        }
    });
    (port, tasks)
}

async fn pass(client: TcpStream, server: TcpStream, swallowed: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let commit = Arc::new(AtomicBool::new(false));
    let committing = commit.clone();
    let up = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let head = String::from_utf8_lossy(&buffer[..count.min(500)]);
            if head.starts_with("POST ") && head.contains("uploadId=") {
                committing.store(true, Ordering::Relaxed);
            }
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let down = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if commit.load(Ordering::Relaxed) && !swallowed.swap(true, Ordering::Relaxed) {
                return;
            }
            if to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        let _ = copy(&mut from_server, &mut to_client).await;
    };
    tokio::select! { () = up => {}, () = down => {} }
}
