//! What a bucket lets us do, tried with a few small objects (`causeway check`). S3 has its own requests
//! ([`super::s3`]); other services are asked through OpenDAL, as the server does.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use opendal::{
    ErrorKind as Theirs, Operator,
    options::{ListOptions, WriteOptions},
};

use super::{Changes, Dialect, ObjectStore};
use crate::store::probe::{Outcome, Steps, Trouble, TroubleKind};

/// Rights by what needs them, in the words of the provider.
struct Rights {
    list: &'static [&'static str],
    put: &'static [&'static str],
    replace: &'static [&'static str],
    get: &'static [&'static str],
    parts: &'static [&'static str],
    abort: &'static [&'static str],
    copy: &'static [&'static str],
    delete: &'static [&'static str],
}

/// <https://cloud.google.com/storage/docs/access-control/iam-permissions>.
const GCS: Rights = Rights {
    list: &["storage.objects.list"],
    put: &["storage.objects.create"],
    replace: &["storage.objects.create", "storage.objects.delete"],
    get: &["storage.objects.get"],
    parts: &["storage.multipartUploads.create", "storage.objects.create"],
    abort: &["storage.multipartUploads.abort"],
    copy: &["storage.objects.get", "storage.objects.create"],
    delete: &["storage.objects.delete"],
};
const AZURE_READ: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read (SAS: r, for lists also l)";
const AZURE_WRITE: &str =
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write (SAS: c and w)";
const AZURE_DELETE: &str =
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete (SAS: d)";
/// <https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory>.
const AZURE: Rights = Rights {
    list: &[AZURE_READ],
    put: &[AZURE_WRITE],
    replace: &[AZURE_WRITE],
    get: &[AZURE_READ],
    parts: &[AZURE_WRITE],
    abort: &[AZURE_WRITE],
    copy: &[AZURE_READ, AZURE_WRITE],
    delete: &[AZURE_DELETE],
};
/// Other services have names of their own, which only their answers tell.
const OTHER: Rights = Rights {
    list: &["the right to list"],
    put: &["the right to write"],
    replace: &["the right to write"],
    get: &["the right to read"],
    parts: &["the right to write"],
    abort: &["the right to end uploads"],
    copy: &["the right to read", "the right to write"],
    delete: &["the right to delete"],
};

impl ObjectStore {
    /// Tries everything that the server does to this bucket.
    pub(in super::super) async fn probe(&self, steps: &mut Steps<'_>, resume: bool) {
        let root = self.keys().root_prefix();
        match &self.shared.changes {
            Changes::S3(s3) => s3.probe(steps, root, resume).await,
            Changes::OpenDal(moves) => {
                let operator = &moves.operator;
                self.probe_through(steps, root, operator).await;
            }
        }
    }

    fn rights(&self) -> &'static Rights {
        match self.shared.dialect {
            Dialect::Gcs => &GCS,
            Dialect::Azblob => &AZURE,
            Dialect::S3 | Dialect::Other => &OTHER,
        }
    }

    async fn probe_through(&self, steps: &mut Steps<'_>, root: &str, operator: &Operator) {
        let (rights, can) = (self.rights(), self.shared.can);
        let directory = format!("{root}{}", steps.prefix());
        let listed = if directory.is_empty() {
            "/"
        } else {
            &directory
        };
        let found = steps
            .take("list", rights.list, first_file(operator, listed))
            .await;
        if !steps.writes() {
            match found.flatten() {
                Some(path) => drop(steps.take("read", rights.get, read(operator, &path)).await),
                None => steps.leave_out("read", "nothing lies there yet"),
            }
            return;
        }
        let first = if steps.prefix().is_empty() {
            self.keys().hidden()
        } else {
            format!("{directory}.causeway-check.{:032x}", rand::random::<u128>())
        };
        let (second, third) = (format!("{first}-2"), format!("{first}-3"));
        let mut made = Vec::new();
        let put = async { write(operator, &first, WriteOptions::default()).await };
        if steps.take("write", rights.put, put).await.is_some() {
            made.push(first.clone());
            let again = async { write(operator, &first, WriteOptions::default()).await };
            steps.take("write over it", rights.replace, again).await;
            steps.take("read", rights.get, read(operator, &first)).await;
            if can.write_with_if_not_exists {
                let options = WriteOptions {
                    if_not_exists: true,
                    ..WriteOptions::default()
                };
                let name = "write with if-not-exists";
                let work = write(operator, &first, options);
                if let Some((stopped, took)) = steps.stopped(name, rights.put, work).await {
                    let outcome = if stopped {
                        Outcome::Done
                    } else {
                        Outcome::Doubtful("the store ignores the condition and wrote all the same: two uploads of one new name can replace each other unnoticed".to_owned())
                    };
                    steps.tell(name, took, outcome);
                }
            }
            if can.copy {
                made.push(third.clone());
                let copy = async {
                    let copied = operator.copy(&first, &third).await;
                    copied.map(drop).map_err(trouble)
                };
                steps.take("copy", rights.copy, copy).await;
            }
        }
        if can.write_can_multi {
            let size = can.write_multi_min_size.unwrap_or(1);
            let parts = async { parts(operator, &second, size).await };
            if steps
                .take("write in parts", rights.parts, parts)
                .await
                .is_some()
            {
                made.push(second.clone());
            }
            let abort = async { abort(operator, &second, size).await };
            steps.take("abort in the middle", rights.abort, abort).await;
        }
        steps.try_again();
        let mut told = false;
        for path in made {
            let delete = async { operator.delete(&path).await.map_err(trouble) };
            let gone = if told {
                steps.quietly(delete).await
            } else {
                told = true;
                steps.take("delete", rights.delete, delete).await
            };
            if gone.is_none() {
                let message =
                    format!("the object {path:?} could not be taken away again: delete it by hand");
                steps.tell("clean up", Duration::ZERO, Outcome::Failed(message));
            }
        }
    }
}

/// A file that lies in `directory`, if the first entries hold one: one page is enough.
async fn first_file(operator: &Operator, directory: &str) -> Result<Option<String>, Trouble> {
    let options = ListOptions {
        limit: Some(10),
        ..ListOptions::default()
    };
    let lister = operator.lister_options(directory, options).await;
    let mut entries = lister.map_err(trouble)?.take(10);
    while let Some(entry) = entries.try_next().await.map_err(trouble)? {
        if entry.metadata().is_file() {
            return Ok(Some(entry.path().to_owned()));
        }
    }
    Ok(None)
}

async fn write(operator: &Operator, path: &str, options: WriteOptions) -> Result<(), Trouble> {
    let content = "causeway check\n";
    let written = operator.write_options(path, content, options).await;
    written.map(drop).map_err(trouble)
}

async fn read(operator: &Operator, path: &str) -> Result<(), Trouble> {
    let metadata = operator.stat(path).await.map_err(trouble)?;
    if metadata.content_length() == 0 {
        return Ok(());
    }
    let reader = operator.reader(path).await.map_err(trouble)?;
    reader.read(0..1).await.map(drop).map_err(trouble)
}

/// Two parts: the first as small as the service takes.
async fn parts(operator: &Operator, path: &str, size: usize) -> Result<(), Trouble> {
    let mut writer = operator.writer(path).await.map_err(trouble)?;
    let written = async {
        writer.write(vec![b'x'; size]).await?;
        writer.write("causeway check\n").await?;
        writer.close().await.map(drop)
    };
    if let Err(error) = written.await {
        // The first mistake says more than what an abort after it does.
        let _ = writer.abort().await;
        return Err(trouble(error));
    }
    Ok(())
}

async fn abort(operator: &Operator, path: &str, size: usize) -> Result<(), Trouble> {
    let mut writer = operator.writer(path).await.map_err(trouble)?;
    for _ in 0..2 {
        writer.write(vec![b'x'; size]).await.map_err(trouble)?;
    }
    writer.abort().await.map_err(trouble)
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn trouble(error: opendal::Error) -> Trouble {
    // What stands before the arrow is about the request; its address may hold a signature.
    let text = error.to_string();
    let text = text
        .split_once(" => ")
        .map_or(text.as_str(), |(_, said)| said)
        .to_owned();
    let no_place = [
        "NoSuchBucket",
        "ContainerNotFound",
        "The specified bucket does not exist",
    ];
    let kind = match error.kind() {
        _ if no_place.iter().any(|word| text.contains(word)) => TroubleKind::Hopeless,
        Theirs::PermissionDenied => TroubleKind::Denied,
        Theirs::ConditionNotMatch | Theirs::AlreadyExists | Theirs::Conflict => {
            TroubleKind::Condition
        }
        Theirs::Unsupported => TroubleKind::Unsupported,
        Theirs::ConfigInvalid => TroubleKind::Hopeless,
        Theirs::Unexpected if error.is_temporary() => TroubleKind::Hopeless,
        _ => TroubleKind::Other,
    };
    Trouble {
        kind,
        message: text,
    }
}
