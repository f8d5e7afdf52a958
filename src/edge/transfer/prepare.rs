//! Everything that can fail before the `150`: path, rights, the store's side of the transfer, and the
//! words of its replies.

use std::{sync::Arc, time::SystemTime};

use futures_util::{StreamExt, TryStreamExt};

use super::recursive;
use crate::{
    access::VirtualPath,
    edge::{
        charset,
        command::Command,
        files::{Stop, report, resolve, resolve_or_here, view},
        listing,
        registry::Presence,
        reply::Reply,
        session::Session,
    },
    store::{
        About, AppendFrom, Entry, View,
        exchange::{Outgoing, Rows},
        listing::{list_line, mlsx_line},
        transfer::{Direction, Failure},
        upload::Incoming as IncomingFile,
    },
};

/// A transfer whose checks are done and whose store side is open.
pub(super) struct Prepared {
    /// What the engine is told.
    pub(super) verb: &'static str,
    pub(super) path: VirtualPath,
    pub(super) source: Source,
    /// How many bytes there will be, where that is known.
    pub(super) expected: Option<u64>,
    /// Text of the 150.
    pub(super) opening: String,
    /// Text of the 226.
    pub(super) closing: String,
}

pub(super) enum Source {
    Upload(IncomingFile),
    Download(Outgoing),
    Listing(Rows),
}

/// One entry of a directory as a line, without its end.
pub(super) type PrintLine = Box<dyn Fn(&Entry, &VirtualPath) -> String + Send + Sync>;

/// What a listing is of, and how.
struct Wish {
    verb: &'static str,
    argument: Option<String>,
    /// `LIST -R`.
    recursive: bool,
}

impl Wish {
    fn plain(verb: &'static str, argument: Option<String>) -> Self {
        Self {
            verb,
            argument,
            recursive: false,
        }
    }
}

/// Checks the command and opens the store's side.
pub(super) async fn prepare(
    session: &mut Session,
    command: Command,
    restart: u64,
) -> Result<Prepared, Stop> {
    let view = Arc::clone(view(session)?);
    let announced = session.allocation.take();
    match command {
        Command::Retr(argument) => {
            let path = resolve(session, &argument)?;
            let (stat, bytes) =
                view.read(&path, restart)
                    .await
                    .map_err(refused(&session.visit, "RETR", &path))?;
            // curl and .NET read the size from here (G25).
            let name = path.name().unwrap_or_default();
            let opening = format!(
                "Opening BINARY mode data connection for {name} ({} bytes).",
                stat.size
            );
            let source = Source::Download(Outgoing(bytes));
            Ok(Prepared {
                verb: "RETR",
                path,
                source,
                expected: Some(stat.size.saturating_sub(restart)),
                opening,
                closing: complete(),
            })
        }
        Command::Stor(argument) => {
            let path = upload_path(session, &argument)?;
            let append = (restart > 0).then_some(AppendFrom::Offset(restart));
            prepare_upload(session, &view, path, append, announced, false).await
        }
        Command::Appe(argument) => {
            let path = upload_path(session, &argument)?;
            let end = Some(AppendFrom::End);
            prepare_upload(session, &view, path, end, announced, false).await
        }
        Command::Stou(wish) => {
            // Unique by 128 random bits, like the names of other servers; RFC 1123 §4.1.2.9 fixes
            // the form of the reply. A wished name is what the unique one begins with (G8).
            let unique = format!("{:032x}", rand::random::<u128>());
            let name = wish.map_or(unique.clone(), |wish| format!("{wish}.{unique}"));
            let path = resolve(session, &name)?;
            let mut prepared = prepare_upload(session, &view, path, None, announced, true).await?;
            prepared.opening = format!("FILE: {name}");
            prepared.closing = format!("Transfer complete, unique file name: {name}");
            Ok(prepared)
        }
        Command::List { path, recursive } => {
            let (now, style) = (SystemTime::now(), session.profile.list);
            let wish = Wish {
                recursive,
                ..Wish::plain("LIST", path)
            };
            let line = move |entry: &Entry, _: &VirtualPath| list_line(entry, now, style);
            prepare_listing(session, &view, wish, Box::new(line)).await
        }
        Command::Nlst { path } => {
            let named = resolve_or_here(session, path.clone())?;
            let inside = listing::name_prefix(path.as_deref());
            let beside = listing::directory_of(path.as_deref()).to_owned();
            let line = move |entry: &Entry, directory: &VirtualPath| {
                // What was named may be the entry itself: a file, or a pattern that it fits.
                let prefix = if *directory == named {
                    &inside
                } else {
                    &beside
                };
                format!("{prefix}{}", entry.name)
            };
            prepare_listing(session, &view, Wish::plain("NLST", path), Box::new(line)).await
        }
        Command::Mlsd(path) => {
            let facts = session.facts;
            let described = Arc::clone(&view);
            let line = move |entry: &Entry, directory: &VirtualPath| {
                let described = directory
                    .join(&entry.name)
                    .ok()
                    .and_then(|path| described.describe(&path));
                match described {
                    Some((key, permissions)) => {
                        mlsx_line(&entry.name, &entry.stat, &key, facts, permissions)
                    }
                    None => format!(" {}", entry.name),
                }
            };
            prepare_listing(session, &view, Wish::plain("MLSD", path), Box::new(line)).await
        }
        // `Command::is_transfer` knows no others.
        other => Err(Stop::Refused(Reply::new(
            502,
            format!("{} moves no bytes", other.verb()),
        ))),
    }
}

/// `STOR dir/` would name a directory, not a file (O25).
fn upload_path(session: &Session, argument: &str) -> Result<VirtualPath, Stop> {
    if argument.ends_with('/') {
        return Err(Stop::Refused(Reply::new(
            553,
            "A file name cannot end with a slash",
        )));
    }
    resolve(session, argument)
}

async fn prepare_upload(
    session: &Session,
    view: &View,
    path: VirtualPath,
    append: Option<AppendFrom>,
    announced: Option<u64>,
    exclusive: bool,
) -> Result<Prepared, Stop> {
    if !session.visit.has_room_for_upload() {
        let text = "Too many events wait to be delivered, try again later";
        return Err(Stop::Refused(Reply::new(452, text)));
    }
    if let Some(bytes) = announced {
        let fits = view.fits(&path, bytes).await;
        fits.map_err(refused(&session.visit, "STOR", &path))?;
    }
    let about = About {
        session: session.visit.id().to_owned(),
        announced,
        exclusive,
    };
    let upload =
        view.write(&path, append, about)
            .await
            .map_err(refused(&session.visit, "STOR", &path))?;
    let tasks = session.shared.drain.tasks();
    let incoming = IncomingFile::start(upload, session.shared.budget.clone(), tasks);
    let name = path.name().unwrap_or_default();
    let opening = format!("Opening BINARY mode data connection for {name}.");
    // APPE and STOU are STOR to the engine: where the bytes go is settled.
    let source = Source::Upload(incoming);
    Ok(Prepared {
        verb: "STOR",
        path,
        source,
        expected: None,
        opening,
        closing: complete(),
    })
}

/// LIST, NLST and MLSD.
async fn prepare_listing(
    session: &Session,
    view: &Arc<View>,
    wish: Wish,
    line: PrintLine,
) -> Result<Prepared, Stop> {
    let Wish {
        verb,
        argument,
        recursive,
    } = wish;
    // MLSD lists directories only, and its argument is a name (RFC 3659 §7.1).
    let directories_only = verb == "MLSD";
    let pattern = listing::pattern(argument.as_deref()).filter(|_| !directories_only);
    let path = resolve_or_here(session, argument.clone())?;
    let selection = listing::select(view, &path, pattern)
        .await
        .map_err(refused(&session.visit, verb, &path))?;
    if directories_only && selection.is_file {
        return Err(Stop::Refused(Reply::new(501, "Not a directory")));
    }
    let directory = selection.directory;
    // A file and the matches of a pattern have nothing below them.
    let tree = session.shared.limits.recursive_listing;
    let tree = tree.filter(|_| recursive && !selection.is_file && directory == path);
    let lines = match tree {
        Some(bounds) => {
            let (view, called) = (Arc::clone(view), argument.as_deref());
            recursive::lines(view, directory, called, selection.entries, line, bounds)
        }
        None => selection
            .entries
            .map(move |entry| Ok(line(&entry?, &directory)))
            .boxed(),
    };
    let charset = session.charset();
    let lines = lines.map_ok(move |line| charset::encode(line, charset));
    let source = Source::Listing(Rows(lines.boxed()));
    Ok(Prepared {
        verb,
        path,
        source,
        expected: None,
        opening: "Opening data connection for the listing.".to_owned(),
        closing: complete(),
    })
}

fn complete() -> String {
    "Transfer complete".to_owned()
}

fn refused(
    presence: &Arc<Presence>,
    verb: &'static str,
    path: &VirtualPath,
) -> impl Fn(Failure) -> Stop + use<> {
    let (presence, path) = (Arc::clone(presence), path.clone());
    move |failure| Stop::Refused(report(&presence, verb, &path, &failure))
}

impl Source {
    /// Ends what has not begun.
    pub(super) async fn give_up(self) {
        if let Self::Upload(incoming) = self {
            incoming.give_up().await;
        }
    }

    pub(super) fn direction(&self) -> Direction {
        match self {
            Self::Upload(_) => Direction::Upload,
            Self::Download(_) => Direction::Download,
            Self::Listing(_) => Direction::Listing,
        }
    }
}
