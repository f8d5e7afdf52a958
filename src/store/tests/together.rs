//! What two sessions, processes or backends on one bucket must not do to each other, on the real gateway.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    config::{S3Backend, TemporaryName},
    store::{Stores, Whose},
};

const PART: usize = 5 << 20;

fn deferring(s3: &mut S3Backend) {
    s3.deferred.names = vec![TemporaryName::parse("*.tmp").unwrap()];
}

/// Two files of one temporary name at the same moment: each could take itself for the newer one. Both
/// clients have their 226, so one of the two must be there.
#[tokio::test]
async fn of_two_files_with_one_temporary_name_one_stays() {
    let Some(lab) = Lab::gateway_with(deferring).await else {
        return;
    };
    let other = lab.changed(|_| {});
    let contents = [bytes(1_000), bytes(1_001)];
    for round in 0..8 {
        let (name, end) = (format!("{round}.tmp"), format!("{round}"));
        let path = key(&name);
        let (one, two) = tokio::try_join!(
            lab.store().write(&path, NewFile::default()),
            other.store().write(&path, NewFile::default()),
        )
        .unwrap();
        let (one, two) = tokio::join!(finish(one, &contents[0]), finish(two, &contents[1]));
        assert!(one.unwrap().waits && two.unwrap().waits);
        assert_eq!(
            kind_of(lab.store(), &name).await,
            Some(Kind::File),
            "{name} is lost"
        );
        assert!(
            lab.store()
                .complete_as(&key(&name), &key(&end), false)
                .await
                .unwrap()
        );
        let there = get(lab.store(), &end).await;
        assert!(contents.contains(&there), "{end}");
    }
}

/// Two backends may lead to one bucket. A file that is renamed from one to the other is then carried onto
/// itself, and must not be deleted as what it was carried from.
#[tokio::test]
async fn a_file_that_is_carried_onto_itself_stays() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    let below = lab.changed(|s3| s3.root = "d".to_owned());
    mkdir(lab.store(), "d").await;
    let stores = Stores::new(BTreeMap::new(), u64::MAX);
    for size in [0, 1_000, PART + 1] {
        let content = bytes(size);
        put(lab.store(), "d/file", &content).await;
        let (from, to) = (key("d/file"), key("file"));
        let (source, target) = (lab.shared(), below.shared());
        let carried = stores.carry((&source, &from), (&target, &to), false).await;
        assert!(get(lab.store(), "d/file").await == content, "{size} bytes");
        carried.unwrap();
        // Another file that looks the same is another one.
        put(lab.store(), "same", &content).await;
        let from = key("same");
        stores
            .carry((&source, &from), (&target, &to), false)
            .await
            .unwrap();
        assert_eq!(kind_of(lab.store(), "same").await, None);
        assert!(get(below.store(), "file").await == content);
    }
}

/// A client that goes on from before what was kept replaces what lies behind that place. Parts that it has
/// not sent again are no longer of its file, whatever ended it.
#[tokio::test]
async fn parts_behind_the_place_of_a_restart_are_gone() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    for crash in [false, true] {
        let name = format!("file-{crash}");
        let (old, new) = (bytes(6 * PART), Bytes::from(vec![7; 6 * PART]));
        let mut first = lab
            .store()
            .write_kept(&key(&name), NewFile::default(), "bob")
            .await
            .unwrap();
        for part in 0..5 {
            let part = old.slice(part * PART..(part + 1) * PART);
            first.write(chunks(part)).await.unwrap();
        }
        assert!(first.keep(vec![old.slice(5 * PART..5 * PART + 10)]).await);

        // From behind the second part, with other bytes.
        let again = lab.changed(|_| {});
        let offset = 2 * PART as u64;
        let mut second = again
            .store()
            .resume(&key(&name), "bob", offset, false)
            .await
            .unwrap();
        if crash {
            // The parts come in a later second than the record: that is all the store tells.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        for part in 2..4 {
            let part = new.slice(part * PART..(part + 1) * PART);
            second.write(chunks(part)).await.unwrap();
        }
        let process = if crash {
            // Both have landed when the fourth is another one than before.
            let parts = "id = s3.list_multipart_uploads(Bucket=bucket)['Uploads'][0]\n\
                 parts = s3.list_parts(Bucket=bucket, Key=id['Key'], UploadId=id['UploadId'])\n\
                 print(len({part['ETag'] for part in parts['Parts'][2:4]}))";
            while lab.script(parts).await != "1" {}
            std::mem::forget(second);
            lab.changed(|_| {})
        } else {
            assert!(second.keep(vec![new.slice(4 * PART..4 * PART + 10)]).await);
            again
        };

        let kept = process
            .store()
            .kept(&key(&name), "bob")
            .await
            .unwrap()
            .unwrap()
            .size;
        // After a crash without the last part; otherwise all but the last byte.
        let expected = if crash { 3 * PART } else { 4 * PART + 9 };
        assert_eq!(kept, expected as u64, "crash: {crash}");
        let third = process
            .store()
            .resume(&key(&name), "bob", kept, false)
            .await
            .unwrap();
        let rest = new.slice(expected..);
        let committed = finish(third, &rest).await.unwrap();
        assert_eq!(committed.size, 6 * PART as u64);
        let whole = [&old[..2 * PART], &new[2 * PART..]].concat();
        assert!(get(lab.store(), &name).await == whole, "crash: {crash}");
        lab.assert_nothing_left().await;
    }
}

/// What causeway itself keeps in a bucket is no file of a user, and fills no quota.
#[tokio::test]
async fn what_is_hidden_is_not_counted() {
    let Some(lab) = Lab::gateway().await else {
        return;
    };
    put(lab.store(), "file", &bytes(10)).await;
    let upload = lab
        .store()
        .write_kept(&key("cut"), NewFile::default(), "bob")
        .await
        .unwrap();
    assert!(upload.keep(chunks(bytes(1_000))).await);
    let total = lab.store().total(&key("")).await.unwrap();
    assert_eq!((total.files, total.bytes), (1, 10));
}

/// A temporary name may be written by others while a file waits under it. Whoever came last counts: the older
/// file does not take the newer one's place when its time is up.
#[tokio::test]
async fn what_waits_does_not_replace_what_came_behind_it() {
    let Some(lab) = Lab::gateway_with(deferring).await else {
        return;
    };
    let path = key("a.tmp");
    let upload = lab.store().write(&path, NewFile::default());
    assert!(
        finish(upload.await.unwrap(), &bytes(10))
            .await
            .unwrap()
            .waits
    );
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    lab.script("s3.put_object(Bucket=bucket, Key='a.tmp', Body=b'newer')")
        .await;
    assert_eq!(lab.store().commit_held(Whose::Ours).await.unwrap(), 1);
    assert_eq!(get(lab.store(), "a.tmp").await, "newer");
    lab.assert_nothing_left().await;
}
