//! What only a bucket can get wrong, on the real gateway: keys that others put there, metadata, and
//! an answer that is lost.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;
use crate::{
    config::{Checksum, ConcurrentUploads, S3Backend, S3Provider, SetTime},
    store::{Author, Hasher},
};

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
    store.rename(&key("f/g"), &key("h/g"), false).await.unwrap();
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
async fn metadata_and_tags_survive_rename_and_append() {
    let Some(lab) = Lab::gateway_with(|s3| s3.switches = S3Provider::Ceph.switches()).await else {
        return;
    };
    let store = lab.store();
    let described = |name: &str| {
        format!(
            "o = s3.head_object(Bucket=bucket, Key='{name}'); print(o['ContentType'], o['Metadata'].get('owner'), {{t['Key']: t['Value'] for t in s3.get_object_tagging(Bucket=bucket, Key='{name}')['TagSet']}})"
        )
    };
    let expected = "text/csv bob {'cost centre': 'a+b/1', 'project': 'x'}";
    // Renamed by one request; appended to as one PUT, and as parts.
    for bytes_before in [1_000, 6 << 20] {
        lab.script(&format!(
            "s3.put_object(Bucket=bucket, Key='a', Body=b'x' * {bytes_before}, ContentType='text/csv', Metadata={{'owner': 'bob'}}, Tagging='project=x&cost%20centre=a%2Bb%2F1')",
        ))
        .await;
        store.rename(&key("a"), &key("b"), false).await.unwrap();
        assert_eq!(lab.script(&described("b")).await, expected);
        let stat = store.stat(&key("b")).await.unwrap();
        let base = Base::Present {
            bytes: stat.size,
            version: stat.version,
        };
        put_onto(store, "b", base, &bytes(100)).await.unwrap();
        assert_eq!(lab.script(&described("b")).await, expected);
        let size = store.stat(&key("b")).await.unwrap().size;
        assert_eq!(size, bytes_before + 100);
    }
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

/// What went through a [`metered`] proxy.
#[derive(Debug, Default)]
struct Meter {
    requests: Mutex<Vec<String>>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Meter {
    /// The requests since the last call, `METHOD path?names-of-the-query`, sorted.
    fn requests(&self) -> Vec<String> {
        let mut requests = std::mem::take(&mut *self.requests.lock().unwrap());
        requests.sort();
        requests
    }

    /// Bytes since the last call, both ways.
    fn bytes(&self) -> u64 {
        self.up.swap(0, Ordering::Relaxed) + self.down.swap(0, Ordering::Relaxed)
    }
}

/// Passes everything on and counts it.
async fn metered(upstream: String, meter: Arc<Meter>) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&upstream).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let (up, down) = (meter.clone(), meter.clone());
            connections.spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    up.up.fetch_add(count as u64, Ordering::Relaxed);
                    // The client sends a request when the answer before it has come, so a head is at
                    // the beginning of what is read.
                    let head = String::from_utf8_lossy(&buffer[..count.min(2_000)]).into_owned();
                    if let Some((line, _)) = head.split_once(" HTTP/1.1\r\n")
                        && let Some((method, target)) = line.split_once(' ')
                        && ["GET", "HEAD", "PUT", "POST", "DELETE"].contains(&method)
                    {
                        let (path, query) = target.split_once('?').unwrap_or((target, ""));
                        let names: Vec<_> = query
                            .split('&')
                            .map(|pair| pair.split('=').next().unwrap())
                            .filter(|name| !name.is_empty() && *name != "x-id")
                            .collect();
                        let key = path.splitn(3, '/').nth(2).unwrap_or_default();
                        let request = format!("{method} {key} {}", names.join(" "));
                        up.requests
                            .lock()
                            .unwrap()
                            .push(request.trim_end().to_owned());
                    }
                    if to_server.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
            connections.spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    down.down.fetch_add(count as u64, Ordering::Relaxed);
                    if to_client.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, tasks)
}

/// As the view does it: a survey, then the upload.
async fn upload(store: &dyn Store, name: &str, content: &Bytes) {
    store.survey(&key(name)).await.unwrap();
    let file = NewFile {
        surveyed: true,
        ..NewFile::default()
    };
    let upload = store.write(&key(name), file).await.unwrap();
    finish(upload, content).await.unwrap();
}

/// Three looks at once (the object, the directory of its name, its own directory) and one PUT; until
/// then it was a HEAD and three listings in two round trips, twice over for APPE.
#[tokio::test]
async fn a_small_upload_costs_four_requests() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    mkdir(lab.store(), "d").await;
    let meter = Arc::new(Meter::default());
    let (store, _proxy) = lab.behind_proxy(|up| metered(up, meter.clone())).await;
    upload(store.as_ref(), "d/file", &bytes(1000)).await;
    let requests = meter.requests();
    println!("{requests:#?}");
    assert_eq!(
        requests,
        [
            "GET  list-type prefix max-keys",
            "GET  list-type prefix max-keys",
            "HEAD d/file",
            "PUT d/file",
        ]
    );
    upload(store.as_ref(), "d/large", &bytes(11 << 20)).await;
    let requests = meter.requests();
    // The second HEAD is for the ETag, which Ceph 16 leaves out of the answer to the commit.
    assert_eq!(
        requests[2..],
        [
            "HEAD d/large",
            "HEAD d/large",
            "POST d/large uploadId",
            "POST d/large uploads",
            "PUT d/large partNumber uploadId",
            "PUT d/large partNumber uploadId",
            "PUT d/large partNumber uploadId",
        ],
        "{requests:#?}"
    );
}

#[tokio::test]
async fn rename_and_append_move_no_old_bytes_through_us() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    let content = bytes(20 << 20);
    put(lab.store(), "old", &content).await;
    let meter = Arc::new(Meter::default());
    let (store, _proxy) = lab.behind_proxy(|up| metered(up, meter.clone())).await;
    store.rename(&key("old"), &key("new"), false).await.unwrap();
    assert!(meter.bytes() < 64 << 10);
    let stat = store.stat(&key("new")).await.unwrap();
    let base = Base::Present {
        bytes: stat.size,
        version: stat.version,
    };
    let tail = bytes(1 << 20);
    put_onto(store.as_ref(), "new", base, &tail).await.unwrap();
    let moved = meter.bytes();
    assert!(moved < (1 << 20) + (64 << 10), "{moved} bytes");
    assert!(get(lab.store(), "new").await == [content, tail].concat());
    lab.assert_nothing_left().await;
}

/// As above, where one request of each kind is no longer enough.
#[tokio::test]
#[ignore = "six gigabytes into a store in memory: ./tests/soak"]
async fn six_gibibytes_are_renamed_and_appended_to_inside_the_store() {
    let Some(lab) = Lab::gateway_with(|s3| s3.switches = S3Provider::Ceph.switches()).await else {
        return;
    };
    let size = 6_u64 << 30;
    let script = "
import io
from boto3.s3.transfer import TransferConfig
class Zeroes(io.RawIOBase):
    left = 6 << 30
    def readable(self): return True
    def readinto(self, b):
        n = min(len(b), self.left); b[:n] = bytes(n); self.left -= n; return n
s3.upload_fileobj(Zeroes(), bucket, 'old', Config=TransferConfig(multipart_chunksize=64 << 20, max_concurrency=2))
s3.put_object_tagging(Bucket=bucket, Key='old', Tagging={'TagSet': [{'Key': 'project', 'Value': 'x'}]})";
    lab.script(script).await;
    let meter = Arc::new(Meter::default());
    let (store, _proxy) = lab.behind_proxy(|up| metered(up, meter.clone())).await;
    let started = std::time::Instant::now();
    store.rename(&key("old"), &key("new"), false).await.unwrap();
    println!("rename: {} bytes, {:?}", meter.bytes(), started.elapsed());
    let stat = store.stat(&key("new")).await.unwrap();
    assert_eq!(stat.size, size);
    let base = Base::Present {
        bytes: size,
        version: stat.version,
    };
    meter.bytes();
    let started = std::time::Instant::now();
    put_onto(store.as_ref(), "new", base, &bytes(1 << 20))
        .await
        .unwrap();
    let moved = meter.bytes();
    println!("append of 1 MiB: {moved} bytes, {:?}", started.elapsed());
    assert!(moved < (1 << 20) + (64 << 10), "{moved} bytes");
    assert_eq!(
        store.stat(&key("new")).await.unwrap().size,
        size + (1 << 20)
    );
    let tags = "print(s3.get_object_tagging(Bucket=bucket, Key='new')['TagSet'])";
    assert_eq!(lab.script(tags).await, "[{'Key': 'project', 'Value': 'x'}]");
    lab.assert_nothing_left().await;
}

#[tokio::test]
async fn digests_are_kept_with_the_object() {
    let Some(lab) = Lab::gateway_with(|s3| s3.switches = S3Provider::Ceph.switches()).await else {
        return;
    };
    let store = lab.store();
    let digest = |content: &[u8], checksum| {
        let mut hasher = Hasher::new(checksum);
        hasher.update(content);
        hasher.finish()
    };
    for (name, size) in [("empty", 0), ("small", 1_000), ("large", 11 << 20)] {
        let content = bytes(size);
        put(store, name, &content).await;
        for checksum in [Checksum::Sha256, Checksum::Crc32] {
            let expected = Some((size as u64, digest(&content, checksum)));
            let kept = store.checksum(&key(name), checksum).await.unwrap();
            assert_eq!(kept, expected, "{name} {checksum:?}");
        }
        assert_eq!(
            store.checksum(&key(name), Checksum::Md5).await.unwrap(),
            None
        );
    }
    // They go with the bytes.
    let content = bytes(11 << 20);
    let expected = Some((content.len() as u64, digest(&content, Checksum::Sha256)));
    store
        .rename(&key("large"), &key("moved"), false)
        .await
        .unwrap();
    let kept = store.checksum(&key("moved"), Checksum::Sha256).await;
    assert_eq!(kept.unwrap(), expected);
    // And not with others.
    for name in ["small", "moved"] {
        let stat = store.stat(&key(name)).await.unwrap();
        let base = Base::Present {
            bytes: stat.size,
            version: stat.version,
        };
        put_onto(store, name, base, &bytes(10)).await.unwrap();
        let kept = store.checksum(&key(name), Checksum::Sha256).await;
        assert_eq!(kept.unwrap(), None, "{name}");
    }
    lab.script(
        "s3.put_object(Bucket=bucket, Key='foreign', Body=b'x', Metadata={'sha256': 'f' * 64})",
    )
    .await;
    for name in ["foreign", "missing", ""] {
        let kept = store.checksum(&key(name), Checksum::Sha256).await;
        assert_eq!(kept.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn objects_carry_what_the_configuration_wants() {
    let Some(lab) = Lab::gateway_with(|_| {}).await else {
        return;
    };
    let store = lab.store();
    let author = Author {
        user: "j\u{f6}rg".to_owned(),
        session: "0a1b2c3d".to_owned(),
        path: "/".to_owned(),
        mount: "/".to_owned(),
    };
    for (name, size) in [("report.csv", 10), ("film.mp4", 6 << 20), ("what", 1)] {
        let file = NewFile {
            author: Some(author.clone()),
            ..NewFile::default()
        };
        let upload = store.write(&key(name), file).await.unwrap();
        finish(upload, &bytes(size)).await.unwrap();
    }
    let script = "
for name in ('report.csv', 'film.mp4', 'what'):
    o = s3.head_object(Bucket=bucket, Key=name)
    m = o['Metadata']
    assert m['uploader'] == 'j%C3%B6rg' and m['session'] == '0a1b2c3d', m
    print(o['ContentType'], end=' ')
";
    assert_eq!(
        lab.script(script).await.trim(),
        "text/csv video/mp4 application/octet-stream"
    );
}

#[tokio::test]
async fn a_time_is_kept_as_metadata() {
    let Some(lab) = Lab::gateway_with(|s3| {
        s3.set_time = SetTime::Store;
        s3.set_time_bytes = 7 << 20;
        s3.switches = S3Provider::Ceph.switches();
    })
    .await
    else {
        return;
    };
    let store = lab.store();
    assert!(store.abilities().set_modified);
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (name, size) in [("small", 10), ("large", 6 << 20)] {
        let content = bytes(size);
        put(store, name, &content).await;
        let digest = store.checksum(&key(name), Checksum::Sha256).await.unwrap();
        store.set_modified(&key(name), time).await.unwrap();
        let stat = store.stat(&key(name)).await.unwrap();
        assert_eq!((stat.modified, stat.size), (Some(time), size as u64));
        assert!(get(store, name).await == content);
        let after = store.checksum(&key(name), Checksum::Sha256).await.unwrap();
        assert!(digest.is_some() && after == digest, "{name}");
        let type_ =
            format!("print(s3.head_object(Bucket=bucket, Key='{name}')['Metadata']['mtime'])");
        assert_eq!(lab.script(&type_).await, "1000000000");
    }
    lists_times(&lab, time).await;
    put(store, "huge", &bytes(8 << 20)).await;
    fails_with(
        store.set_modified(&key("huge"), time).await,
        ErrorKind::TooLarge,
    );
    fails_with(
        store.set_modified(&key("none"), time).await,
        ErrorKind::NotFound,
    );
    // New bytes, new time.
    put(store, "small", &bytes(5)).await;
    assert_ne!(
        store.stat(&key("small")).await.unwrap().modified,
        Some(time)
    );
}

/// A listing shows the bucket's own times without a look at any file, or the clients' with one at each.
async fn lists_times(lab: &Lab, time: SystemTime) {
    let times = async |store: &dyn Store| {
        let entries = store.list(&key("")).await.unwrap();
        let mut entries: Vec<_> = entries.try_collect().await.unwrap();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let times = entries.into_iter();
        let times = times.map(|entry| (entry.name, entry.stat.modified == Some(time)));
        times.collect::<Vec<_>>()
    };
    put(lab.store(), "plain", &bytes(1)).await;
    let all = |shown: bool| {
        [("large", shown), ("plain", false), ("small", shown)]
            .map(|(name, shown)| (name.to_owned(), shown))
    };
    for asked in [false, true] {
        let meter = Arc::new(Meter::default());
        let listing = lab.changed(|s3| s3.list_set_times = asked);
        let (store, _proxy) = listing.behind_proxy(|up| metered(up, meter.clone())).await;
        assert_eq!(times(store.as_ref()).await, all(asked));
        let requests = meter.requests();
        let heads = requests
            .iter()
            .filter(|request| request.starts_with("HEAD "));
        assert_eq!(heads.count(), if asked { 3 } else { 0 }, "{requests:?}");
    }
}

#[tokio::test]
async fn the_second_upload_of_a_name_is_refused_where_that_is_wanted() {
    let refuse = |s3: &mut S3Backend| s3.concurrent_uploads = ConcurrentUploads::Refuse;
    let Some(lab) = Lab::gateway_with(refuse).await else {
        return;
    };
    let store = lab.store();
    let first = store.write(&key("file"), NewFile::default()).await.unwrap();
    fails_with(
        store.write(&key("file"), NewFile::default()).await,
        ErrorKind::InUse,
    );
    put(store, "other", &bytes(1)).await;
    first.abort().await;
    put(store, "file", &bytes(2)).await;
    put(store, "file", &bytes(3)).await;
    assert_eq!(get(store, "file").await, bytes(3));
}

#[tokio::test]
async fn renames_are_bounded_by_size() {
    let Some(lab) = Lab::gateway_with(|s3| s3.rename_bytes = 1_000).await else {
        return;
    };
    let store = lab.store();
    put(store, "small", &bytes(1_000)).await;
    put(store, "large", &bytes(1_001)).await;
    store.rename(&key("small"), &key("s"), false).await.unwrap();
    fails_with(
        store.rename(&key("large"), &key("l"), false).await,
        ErrorKind::TooLarge,
    );
    assert_eq!(names(store, "").await.len(), 2);
}

#[tokio::test]
async fn parts_are_equal_where_the_store_wants_them_so() {
    let Some(lab) = Lab::gateway_with(|s3| s3.switches.exact_parts = true).await else {
        return;
    };
    let store = lab.store();
    let content = bytes((12 << 20) + 5);
    put(store, "file", &content).await;
    let stat = store.stat(&key("file")).await.unwrap();
    let base = Base::Present {
        bytes: stat.size,
        version: stat.version,
    };
    let tail = bytes(9 << 20);
    put_onto(store, "file", base, &tail).await.unwrap();
    assert!(get(store, "file").await == [content, tail].concat());
    // Two copied, 2 MiB and 5 bytes read and put before the first new ones, and what is left.
    let tag = lab.script("print(s3.head_object(Bucket=bucket, Key='file')['ETag'])");
    assert!(tag.await.ends_with("-5\""));
    lab.assert_nothing_left().await;
}
