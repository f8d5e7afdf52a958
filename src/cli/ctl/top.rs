//! `causeway ctl top`: sessions, transfers and failures on the whole terminal, as they are.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Cell, Paragraph, Row, Sparkline, Table, TableState},
};
use tokio::runtime::Runtime;

use super::{
    client::{self, Client},
    show,
};
use crate::{
    admin::{FailureView, SessionView, Status},
    cli::Failure,
    text::{bytes, rate},
};

/// Between two looks at the server.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at the keyboard.
const KEYS: Duration = Duration::from_millis(100);
/// Looks that the plot keeps: five minutes.
const HISTORY: usize = 300;

/// What is on the screen.
#[derive(Debug, Default)]
struct View {
    status: Option<Status>,
    sessions: Vec<SessionView>,
    failures: Vec<FailureView>,
    /// Bytes a second of all transfers together, the newest first, as the plot is drawn.
    rates: VecDeque<u64>,
    /// Why the last look failed.
    problem: Option<String>,
    /// The session to be kicked, once confirmed.
    doomed: Option<String>,
    table: TableState,
}

/// Runs until q.
pub(super) fn run(runtime: &Runtime, client: &Client) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(anyhow!("top needs a terminal; `sessions --json` does not").into());
    }
    let mut view = View::default();
    // Before the screen is taken: a wrong address or token is said in plain text.
    view.look(runtime, client)?;
    let mut terminal = ratatui::try_init()?;
    let ended = show_until_quit(runtime, client, &mut view, &mut terminal);
    ratatui::restore();
    ended
}

fn show_until_quit(
    runtime: &Runtime,
    client: &Client,
    view: &mut View,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Failure> {
    let mut looked = Instant::now();
    loop {
        terminal.draw(|frame| view.draw(frame, client.url()))?;
        if event::poll(KEYS)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('c') if control => return Ok(()),
                KeyCode::Char('q') => return Ok(()),
                KeyCode::Char('y') => view.kick(runtime, client),
                KeyCode::Char('k') => {
                    let chosen = view.table.selected();
                    let chosen = chosen.and_then(|index| view.sessions.get(index));
                    view.doomed = chosen.map(|session| session.id.clone());
                }
                KeyCode::Down => {
                    view.doomed = None;
                    view.table.select_next();
                }
                KeyCode::Up => {
                    view.doomed = None;
                    view.table.select_previous();
                }
                _ => view.doomed = None,
            }
        }
        if looked.elapsed() >= PERIOD {
            looked = Instant::now();
            view.problem = view
                .look(runtime, client)
                .err()
                .map(|failure| failure.to_string());
        }
    }
}

impl View {
    fn look(&mut self, runtime: &Runtime, client: &Client) -> Result<(), Failure> {
        let (status, sessions, failures) = runtime.block_on(async {
            tokio::try_join!(
                client.get("/status"),
                client.get("/sessions"),
                client.get("/failures")
            )
        })?;
        let chosen = self.table.selected();
        let chosen = chosen.and_then(|index| self.sessions.get(index));
        let chosen = chosen.map(|session| session.id.clone());
        self.status = Some(client::read(&status)?);
        self.sessions = client::read(&sessions)?;
        self.failures = client::read(&failures)?;
        // The selection stays with its session, not with its row.
        if let Some(id) = chosen {
            let row = self.sessions.iter().position(|session| session.id == id);
            self.table.select(row);
        }
        let transfers = self.sessions.iter().filter_map(|one| one.transfer.as_ref());
        let rate: f64 = transfers.map(|transfer| transfer.bytes_per_second).sum();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes a second fit, and are not negative"
        )]
        self.rates.push_front(rate as u64);
        self.rates.truncate(HISTORY);
        Ok(())
    }

    fn kick(&mut self, runtime: &Runtime, client: &Client) {
        let Some(id) = self.doomed.take() else {
            return;
        };
        let path = format!("/sessions/{}", client::segment(&id));
        let kicked = runtime.block_on(client.delete(&path));
        self.problem = kicked.err().map(|failure| failure.to_string());
    }

    fn draw(&mut self, frame: &mut Frame<'_>, url: &str) {
        let rows = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(5),
            Constraint::Min(5),
            Constraint::Max(8),
            Constraint::Length(1),
        ]);
        let [head, plot, sessions, failures, foot] = rows.areas(frame.area());
        frame.render_widget(Paragraph::new(self.head(url)), head);
        let rates: Vec<u64> = self.rates.iter().copied().collect();
        let now = self.rates.front().copied().unwrap_or(0);
        let title = format!(" throughput {}/s ", bytes(now));
        frame.render_widget(
            Sparkline::default()
                .block(Block::bordered().title(title))
                .style(Style::new().fg(Color::Cyan))
                .data(rates),
            plot,
        );
        frame.render_stateful_widget(session_table(&self.sessions), sessions, &mut self.table);
        frame.render_widget(failure_table(&self.failures), failures);
        let foot_text = match (&self.problem, &self.doomed) {
            (Some(problem), _) => Line::styled(
                show::safe(problem).into_owned(),
                Style::new().fg(Color::Red),
            ),
            (None, Some(id)) => Line::styled(
                format!(
                    "end session {}? y ends it, any other key does not",
                    show::safe(id)
                ),
                Style::new().fg(Color::Yellow),
            ),
            (None, None) => Line::raw("↑ ↓ choose   k kick   q quit"),
        };
        frame.render_widget(Paragraph::new(foot_text), foot);
    }

    fn head(&self, url: &str) -> Line<'static> {
        let text = match &self.status {
            None => format!("causeway at {url}"),
            Some(status) => {
                let numbers = show::status(status);
                format!("{}  {url}", numbers.trim_end())
            }
        };
        Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
    }
}

fn cell(text: &str) -> Cell<'static> {
    Cell::from(show::safe(text).into_owned())
}

fn head(words: &[&'static str]) -> Row<'static> {
    let cells = words.iter().map(|word| Cell::from(*word));
    Row::new(cells).style(Style::new().add_modifier(Modifier::DIM))
}

fn session_table(sessions: &[SessionView]) -> Table<'static> {
    let rows = sessions.iter().map(|session| {
        let (path, moved, rate) = match &session.transfer {
            None => (String::new(), String::new(), String::new()),
            Some(transfer) => (
                format!("{} {}", transfer.verb, transfer.path),
                show::progress(transfer),
                format!("{}/s", rate(transfer.bytes_per_second)),
            ),
        };
        Row::new([
            cell(&session.id),
            cell(session.user.as_deref().unwrap_or("-")),
            cell(&session.peer),
            cell(session.tls.as_deref().unwrap_or("-")),
            cell(&format!("{} s", session.idle_seconds)),
            cell(&moved),
            cell(&rate),
            cell(&path),
        ])
    });
    let widths = [
        Constraint::Length(8),
        Constraint::Max(16),
        Constraint::Max(22),
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Max(30),
        Constraint::Length(12),
        Constraint::Min(10),
    ];
    Table::new(rows, widths)
        .header(head(&[
            "SESSION", "USER", "PEER", "TLS", "IDLE", "MOVED", "RATE", "TRANSFER",
        ]))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::bordered().title(format!(" {} sessions ", sessions.len())))
}

fn failure_table(failures: &[FailureView]) -> Table<'static> {
    let rows = failures.iter().take(20).map(|failure| {
        Row::new([
            cell(&failure.reference),
            cell(&failure.at),
            cell(failure.user.as_deref().unwrap_or("-")),
            cell(&format!("{} {}", failure.code, failure.verb)),
            cell(&failure.reason),
        ])
    });
    let widths = [
        Constraint::Length(6),
        Constraint::Length(20),
        Constraint::Max(16),
        Constraint::Length(9),
        Constraint::Min(10),
    ];
    Table::new(rows, widths)
        .header(head(&["REF", "AT", "USER", "CODE", "REASON"]))
        .block(Block::bordered().title(" recent failures "))
}
