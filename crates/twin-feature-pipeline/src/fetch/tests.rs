use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server inside that counts who talks to it, and its port.
async fn canary() -> (Arc<AtomicUsize>, u16) {
    let listener = TcpListener::bind((INSIDE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let visits = Arc::new(AtomicUsize::new(0));
    let seen = visits.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    (visits, port)
}

/// A client for which every name has the first of these answers at first, and the last from then on.
fn fetcher(answers: &'static [&'static [IpAddr]], config: FetchConfig) -> Fetcher {
    let asked = AtomicUsize::new(0);
    let answer = move |_: &str| {
        let at = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        answers[at].to_vec()
    };
    Fetcher::with_names(config, Names::Scripted(Arc::new(answer))).unwrap()
}

fn config(robots: bool) -> FetchConfig {
    FetchConfig { obey_robots: robots, connect_timeout: Duration::from_millis(300), ..FetchConfig::default() }
}

async fn outcome(fetcher: &Fetcher, url: &Url) -> FetchError {
    fetcher.fetch(url, &Validators::default()).await.unwrap_err()
}

#[tokio::test]
async fn a_name_that_turns_inside_after_it_was_checked_is_not_asked() {
    let (visits, port) = canary().await;
    let url = Url::parse(&format!("http://rebinding.example:{port}/")).unwrap();
    let fetcher = fetcher(&[&[OUTSIDE], &[INSIDE]], config(false));
    assert_eq!(fetcher.addresses(&url).await.unwrap(), [SocketAddr::new(OUTSIDE, port)], "the check sees the outside");
    let error = outcome(&fetcher, &url).await;
    assert!(matches!(error, FetchError::Denied(Denied::Address(_))), "{error}");
    let error = fetcher.post(&url, "{}".to_owned()).await.unwrap_err();
    assert!(matches!(error, FetchError::Denied(Denied::Address(_))), "{error}");
    assert!(fetcher.addresses(&url).await.is_err());
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_robots_of_a_name_inside_are_not_asked_for() {
    let (visits, port) = canary().await;
    let url = Url::parse(&format!("http://rebinding.example:{port}/")).unwrap();
    let fetcher = fetcher(&[&[INSIDE]], config(true));
    let error = outcome(&fetcher, &url).await;
    assert!(matches!(error, FetchError::Denied(Denied::Address(_))), "{error}");
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_address_inside_among_others_is_enough() {
    let (visits, port) = canary().await;
    let url = Url::parse(&format!("http://both.example:{port}/")).unwrap();
    let fetcher = fetcher(&[&[OUTSIDE, INSIDE]], config(false));
    let error = outcome(&fetcher, &url).await;
    assert!(matches!(error, FetchError::Denied(Denied::Address(_))), "{error}");
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_to_a_name_inside_is_not_followed() {
    let (visits, port) = canary().await;
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(302).insert_header("location", format!("http://rebinding.example:{port}/"));
    Mock::given(wiremock::matchers::path("/")).respond_with(answer).mount(&server).await;
    let config = FetchConfig { allow_net: vec![server.address().to_string()], ..config(false) };
    let fetcher = fetcher(&[&[INSIDE]], config);
    let error = outcome(&fetcher, &Url::parse(&server.uri()).unwrap()).await;
    assert!(matches!(error, FetchError::Denied(Denied::Address(_))), "{error}");
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}
