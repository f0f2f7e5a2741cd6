use proptest::prelude::*;

use super::*;

fn domain() -> TrustDomain {
    "weft.local".parse().unwrap()
}

#[test]
fn labels_are_dns_1123() {
    let longest = "a".repeat(63);
    for text in ["a", "0", "a-b", "9x", &longest] {
        assert!(DnsLabel::is_valid(text), "{text}");
    }
    for text in [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a_b",
        "ä",
        "a b",
        "a\0",
        &format!("{longest}a"),
    ] {
        assert!(!DnsLabel::is_valid(text), "{text}");
    }
}

#[test]
fn errors_say_what_and_why_and_escape_what_they_quote() {
    let error = "shop".parse::<ServiceName>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`shop` is not a service's name: expected `namespace/name`"
    );
    let error = "a\nb".parse::<DnsLabel>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`a\\nb` is not a DNS label: '\\n' is not allowed there"
    );
}

#[test]
fn pairs_refuse_what_is_not_two_labels() {
    assert_eq!(
        "shop/web".parse::<WorkloadName>().unwrap().to_string(),
        "shop/web"
    );
    for text in [
        "",
        "shop",
        "shop/",
        "/web",
        "shop/web/x",
        "shop/web:http",
        "Shop/web",
    ] {
        assert!(text.parse::<WorkloadName>().is_err(), "{text}");
    }
    for text in [
        "shop/api",
        "shop/api:",
        "shop/api:http:x",
        "api:http",
        "shop/api:80_",
    ] {
        assert!(text.parse::<ServicePort>().is_err(), "{text}");
    }
}

#[test]
fn only_the_mesh_namespace_is_reserved() {
    assert!(
        "weft/anything"
            .parse::<WorkloadName>()
            .unwrap()
            .is_reserved()
    );
    assert!(!"shop/weft".parse::<WorkloadName>().unwrap().is_reserved());
}

#[test]
fn server_names_that_dns_could_not_carry_are_refused() {
    let target: ServicePort = "shop/api:http".parse().unwrap();
    assert_eq!(
        server_name(&target, &domain()).unwrap(),
        "http.api.shop.weft.local"
    );
    for trust_domain in [
        "a_b",
        "a..b",
        "a.",
        "-a",
        &"a.".repeat(120),
        &"a".repeat(64),
    ] {
        assert!(
            server_name(&target, &trust_domain.parse().unwrap()).is_err(),
            "{trust_domain}"
        );
    }
}

#[test]
fn server_names_of_other_shapes_or_domains_are_refused() {
    assert_eq!(
        parse_server_name("HTTP.api.shop.Weft.local", &domain())
            .unwrap()
            .to_string(),
        "shop/api:http"
    );
    for text in [
        "",
        "weft.local",
        ".weft.local",
        "api.shop.weft.local",
        "x.http.api.shop.weft.local",
        "http.api.shop.other.local",
        "http.api.shopweft.local",
        "http..shop.weft.local",
        "http.api.shop.weft.local.",
    ] {
        assert!(parse_server_name(text, &domain()).is_err(), "{text}");
    }
}

#[test]
fn hosts_are_mesh_names_only_in_their_two_spellings() {
    for host in [
        "api.shop",
        "API.shop",
        "api.shop.",
        "api.shop.weft.local",
        "api.shop.weft.local.",
    ] {
        assert_eq!(
            parse_mesh_host(host, &domain()).unwrap().to_string(),
            "shop/api",
            "{host}"
        );
    }
    for host in [
        "",
        ".",
        "localhost",
        "api.shop.other.local",
        "http.api.shop.weft.local",
        "a_b.shop",
        "[::1]",
        "127.0.0.1",
    ] {
        assert_eq!(parse_mesh_host(host, &domain()), None, "{host}");
    }
}

const LABEL: &str = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";

proptest! {
    #[test]
    fn names_round_trip(namespace in LABEL, name in LABEL, port in LABEL) {
        let text = format!("{namespace}/{name}:{port}");
        let target: ServicePort = text.parse().unwrap();
        prop_assert_eq!(target.to_string(), text);
        let json = serde_json::to_string(&target).unwrap();
        prop_assert_eq!(serde_json::from_str::<ServicePort>(&json).unwrap(), target.clone());
        let on_the_wire = server_name(&target, &domain()).unwrap();
        prop_assert_eq!(parse_server_name(&on_the_wire, &domain()).unwrap(), target.clone());
        let host = format!("{name}.{namespace}");
        prop_assert_eq!(parse_mesh_host(&host, &domain()).unwrap(), target.service);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>()) {
        let _ = text.parse::<ServicePort>().map_err(|error| error.to_string());
        let _ = parse_server_name(&text, &domain()).map_err(|error| error.to_string());
        let _ = parse_mesh_host(&text, &domain());
        let _ = parse_mesh_host(&format!("{text}.weft.local"), &domain());
    }
}
