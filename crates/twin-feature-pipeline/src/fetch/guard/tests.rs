use super::*;

fn check(url: &str) -> Result<(), Denied> {
    Allowed::default().check(&Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")))
}

#[test]
fn the_inside_is_denied_however_it_is_written() {
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.255.255.254",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "012.0.0.1",
        "167772161",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "169.254.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "0xc0a80001",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a00:1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[2002:c0a8:1::]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fdff::1]",
        "[fe80::1]",
        "[febf::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[ff0e::1]",
        "[2001:db8::1]",
        "[2001::1]",
        "[100::1]",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
    ];
    assert!(hosts.len() >= 65);
    for host in hosts {
        for scheme in ["http", "https"] {
            let denied = check(&format!("{scheme}://{host}/")).unwrap_err();
            assert!(matches!(denied, Denied::Address(_)), "{host}: {denied}");
        }
    }
}

#[test]
fn other_doors_are_denied() {
    assert!(matches!(check("ftp://a.org/"), Err(Denied::Scheme(_))));
    assert!(matches!(check("file:///etc/passwd"), Err(Denied::Scheme(_))));
    assert!(matches!(check("gopher://a.org/"), Err(Denied::Scheme(_))));
    assert_eq!(check("http://user@a.org/"), Err(Denied::Credentials));
    assert_eq!(check("http://:secret@a.org/"), Err(Denied::Credentials));
    for port in [22, 25, 53, 110, 143, 445, 587] {
        assert_eq!(check(&format!("http://a.org:{port}/")), Err(Denied::Port(port)));
    }
}

#[test]
fn the_outside_is_allowed() {
    for url in [
        "https://a.org/",
        "http://a.org:8080/",
        "http://1.1.1.1/",
        "http://172.32.0.1/",
        "http://100.128.0.1/",
        "http://[2606:4700::1111]/",
        "http://[64:ff9b::1.1.1.1]/",
        "http://[2002:101:101::]/",
        "http://[::ffff:1.1.1.1]/",
    ] {
        assert_eq!(check(url), Ok(()), "{url}");
    }
}

#[test]
fn a_name_that_also_points_inside_is_denied() {
    let allowed = Allowed::default();
    let outside: SocketAddr = "1.1.1.1:0".parse().unwrap();
    let inside: SocketAddr = "[::1]:0".parse().unwrap();
    assert!(allowed.filter("a.org", vec![outside]).is_ok());
    assert!(allowed.filter("a.org", vec![outside, inside]).is_err());
}

#[test]
fn what_is_allowed_is_allowed_at_its_port_only() {
    let allowed =
        Allowed::parse(&["127.0.0.1:8080".to_owned(), "[::1]:90".to_owned(), "localhost:80".to_owned()]).unwrap();
    let check = |url: &str| allowed.check(&Url::parse(url).unwrap()).is_ok();
    assert!(check("http://127.0.0.1:8080/") && check("http://[::1]:90/") && check("http://localhost/x"));
    assert!(!check("http://127.0.0.1:8081/") && !check("http://[::1]/") && !check("http://localhost:81/"));
    assert!(!check("http://localhost:8080/"), "a name resolves unfiltered, so it must not open other ports");
    for bad in ["127.0.0.1", "127.0.0.1:x", "a b:80", "127.0.0.1:80/path", "", ":80"] {
        assert!(Allowed::parse(&[bad.to_owned()]).is_err(), "{bad}");
    }
}
