//! Twice as much as a running server can answer, for some minutes, with half of the clients hanging up at random.
//!
//!     cargo run --release -p twin-inference-pipeline --example soak -- MINUTES ADDRESS PID AUTHOR QUESTION...
//!
//! ADDRESS is a server on this machine, PID its process, of which the memory is read. What it can sustain is measured first,
//! with four clients. Every request must be answered to its end, be refused with 429, or be one whose client hung up; anything
//! else is counted as an error, and ends the program with 1.

#![expect(clippy::print_stdout, reason = "the figures are the product")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

type Failure = Box<dyn std::error::Error>;

/// How long the rate is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// How many clients measure it.
const MEASURING: usize = 4;
/// How long the last answers may take.
const CLOSING: Duration = Duration::from_secs(120);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Answered,
    Refused,
    HungUp,
    Wrong,
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    refused: AtomicU64,
    hung_up: AtomicU64,
    wrong: AtomicU64,
}

impl Tally {
    fn count(&self, end: End) {
        let counter = match end {
            End::Answered => &self.answered,
            End::Refused => &self.refused,
            End::HungUp => &self.hung_up,
            End::Wrong => &self.wrong,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn line(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (answered, refused, hung_up, wrong) =
            (of(&self.answered), of(&self.refused), of(&self.hung_up), of(&self.wrong));
        format!("{answered} answered, {refused} refused with 429, {hung_up} hung up, {wrong} errors")
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [minutes, address, process, author, question @ ..] = arguments.as_slice() else {
        return Err("usage: soak MINUTES ADDRESS PID AUTHOR QUESTION...".into());
    };
    let (minutes, address): (f64, SocketAddr) = (minutes.parse()?, address.parse()?);
    if !address.ip().is_loopback() {
        return Err("only servers on this machine are soaked".into());
    }
    let messages = serde_json::json!([{ "role": "user", "content": question.join(" ") }]);
    let body = serde_json::json!({ "model": author, "messages": messages, "stream": true, "max_tokens": 60 });
    let body: Arc<str> = body.to_string().into();
    let rate = sustained(address, &body).await?;
    println!("{rate:.2} answers a second are sustained; {:.2} are asked for from here on", 2.0 * rate);
    let memory = resident_mib(process)?;
    println!("memory at the start: {memory:.0} MiB");
    let tally = soak(address, &body, 2.0 * rate, Duration::from_secs_f64(minutes * 60.0), process).await?;
    println!("in all: {}", tally.line());
    println!("memory at the end: {:.0} MiB ({memory:.0} at the start)", resident_mib(process)?);
    Ok(ExitCode::from(u8::from(tally.wrong.load(Ordering::Relaxed) > 0)))
}

/// How many answers a second a few clients get that ask again as soon as they are answered.
async fn sustained(address: SocketAddr, body: &Arc<str>) -> Result<f64, Failure> {
    ask(address, Arc::clone(body), None).await; // The first answer loads what it needs.
    let begun = Instant::now();
    let client = |body: Arc<str>| async move {
        let mut answered = 0_u32;
        while begun.elapsed() < MEASURED {
            answered += u32::from(ask(address, Arc::clone(&body), None).await == End::Answered);
        }
        answered
    };
    let clients: Vec<_> = (0..MEASURING).map(|_| tokio::spawn(client(Arc::clone(body)))).collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await?;
    }
    if answered == 0 {
        return Err("the server answers nothing: is the author known, and the address right?".into());
    }
    Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
}

async fn soak(
    address: SocketAddr,
    body: &Arc<str>,
    rate: f64,
    time: Duration,
    process: &str,
) -> Result<Arc<Tally>, Failure> {
    let (tally, clients, begun) = (Arc::new(Tally::default()), TaskTracker::new(), Instant::now());
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut looked = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    while begun.elapsed() < time {
        ticks.tick().await;
        // A linear congruential generator (Knuth): any half will do.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let patience = (random >> 63 == 1).then(|| Duration::from_millis((random >> 33) % 3_000));
        let (counts, body) = (Arc::clone(&tally), Arc::clone(body));
        clients.spawn(async move { counts.count(ask(address, body, patience).await) });
        if looked.elapsed() >= Duration::from_secs(60) {
            looked = Instant::now();
            println!("{:.0} s: {}; {:.0} MiB", begun.elapsed().as_secs_f64(), tally.line(), resident_mib(process)?);
        }
    }
    clients.close();
    if tokio::time::timeout(CLOSING, clients.wait()).await.is_err() {
        return Err(format!("{} requests were neither answered nor refused", clients.len()).into());
    }
    Ok(tally)
}

/// Asks once, and hangs up when patience is over.
async fn ask(address: SocketAddr, body: Arc<str>, patience: Option<Duration>) -> End {
    let asked = request(address, &body);
    match patience {
        None => asked.await.unwrap_or(End::Wrong),
        Some(patience) => match tokio::time::timeout(patience, asked).await {
            Ok(end) => end.unwrap_or(End::Wrong),
            Err(_) => End::HungUp,
        },
    }
}

async fn request(address: SocketAddr, body: &str) -> std::io::Result<End> {
    let mut socket = TcpStream::connect(address).await?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).await?;
    let reply = String::from_utf8_lossy(&reply);
    Ok(match reply.split(' ').nth(1) {
        Some("200") if reply.contains("data: [DONE]") => End::Answered,
        Some("429") if reply.to_lowercase().contains("retry-after:") => End::Refused,
        _ => End::Wrong,
    })
}

/// The memory of a process that is in use, as Linux tells it.
fn resident_mib(process: &str) -> Result<f64, Failure> {
    let status = fs_err::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("this system does not tell")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
