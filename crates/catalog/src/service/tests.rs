use super::*;

/// A valid spec, as JSON, that a case then spoils.
fn spec() -> serde_json::Value {
    serde_json::json!({
        "workloads": ["shop/api", "shop/admin"],
        "ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "http"},
            {"name": "raw", "port": 9000, "protocol": "tcp"},
        ],
        "health": {"http": {"path": "/healthz"}, "interval": "2s"},
    })
}

fn read(spec: serde_json::Value) -> Result<Service, Invalid> {
    Service::from_spec(
        "shop/api".parse().unwrap(),
        &serde_json::from_value(spec).unwrap(),
    )
}

#[test]
fn a_valid_service_is_read_with_its_defaults() {
    let service = read(spec()).unwrap();
    assert_eq!(service.ports[1].target_port, 9000);
    assert_eq!(service.encoded_slashes, EncodedSlashes::Refuse);
    assert!(service.may_be_offered_by(&"shop/admin".parse().unwrap()));
    assert!(!service.may_be_offered_by(&"shop/web".parse().unwrap()));
    assert_eq!(
        Service::from_spec(service.name.clone(), &service.to_spec()).unwrap(),
        service
    );
}

#[test]
fn each_invalid_value_is_refused_with_its_path() {
    use serde_json::json;
    for (pointer, value, path) in [
        (
            "/workloads",
            json!(["shop/api", "shop/api"]),
            "spec.workloads[1]",
        ),
        (
            "/workloads",
            json!(["weft/control-plane"]),
            "spec.workloads[0]",
        ),
        ("/ports", json!([]), "spec.ports"),
        ("/ports/1/name", json!("http"), "spec.ports[1].name"),
        ("/ports/1/port", json!(80), "spec.ports[1].port"),
        ("/ports/0/port", json!(0), "spec.ports[0].port"),
        ("/ports/0/targetPort", json!(0), "spec.ports[0].targetPort"),
        ("/health", json!({}), "spec.health"),
        (
            "/health",
            json!({"http": {"path": "/"}, "tcp": {}}),
            "spec.health",
        ),
        (
            "/health/http/path",
            json!("healthz"),
            "spec.health.http.path",
        ),
        ("/health/http/path", json!("/a b"), "spec.health.http.path"),
        (
            "/health/http",
            json!({"path": "/", "port": "raw"}),
            "spec.health.http.port",
        ),
        (
            "/health",
            json!({"tcp": {"port": "none"}}),
            "spec.health.tcp.port",
        ),
        ("/health/interval", json!("99ms"), "spec.health.interval"),
    ] {
        let mut spoilt = spec();
        *spoilt.pointer_mut(pointer).unwrap() = value;
        assert_eq!(read(spoilt).unwrap_err().path, path, "{pointer}");
    }
}

#[test]
fn an_external_service_has_hosts_and_what_is_of_the_other_type_is_refused() {
    use serde_json::json;
    let external = || {
        json!({
            "type": "External",
            "hosts": ["api.stripe.com", "*.s3.amazonaws.com"],
            "ports": [{"name": "https", "port": 443, "protocol": "tls"}],
            "allowAddresses": ["10.1.0.0/16"],
        })
    };
    let service = read(external()).unwrap();
    assert_eq!((service.workloads.len(), required_schema(&service)), (0, 3));
    let written = service.to_spec();
    assert_eq!(
        Service::from_spec(service.name.clone(), &written).unwrap(),
        service
    );
    for (field, value, path) in [
        ("hosts", json!(["a.example", "A.example"]), "spec.hosts[1]"),
        (
            "allowAddresses",
            json!(["::/0", "::/0"]),
            "spec.allowAddresses[1]",
        ),
        ("workloads", json!(["shop/api"]), "spec.workloads"),
        ("health", json!({"tcp": {}}), "spec.health"),
        ("type", json!("Mesh"), "spec.hosts"),
        (
            "ports",
            json!([{"name": "a", "port": 1, "targetPort": 2, "protocol": "tcp"}]),
            "spec.ports[0].targetPort",
        ),
    ] {
        let mut spoilt = external();
        spoilt[field] = value;
        assert_eq!(read(spoilt).unwrap_err().path, path, "{field}");
    }
    let mut mesh = spec();
    mesh["ports"][1]["protocol"] = "tls".into();
    assert_eq!(read(mesh).unwrap_err().path, "spec.ports[1].protocol");
}

#[test]
fn a_host_is_never_a_name_of_the_mesh() {
    let external = |host: &str| {
        let hosts = [host.parse().unwrap()];
        External::new("spec", &hosts, &[]).unwrap()
    };
    let domain: TrustDomain = "weft.example".parse().unwrap();
    for (host, is_mesh) in [
        ("api.shop", true),
        ("api.example", false),
        ("api.shop.weft.example", true),
        ("weft.example", true),
        ("*.weft.example", true),
        ("*.shop.weft.example", true),
        ("myweft.example", false),
        ("*.shop.example", false),
        ("api.shop.example", false),
    ] {
        let checked = external(host).check_not_mesh(&domain, |name| name == "shop");
        assert_eq!(checked.is_err(), is_mesh, "{host}");
    }
}

#[test]
fn overlapping_hosts_are_found_where_a_port_is_shared() {
    let service = |hosts: &[&str], port: u16| {
        let spec = serde_json::json!({
            "type": "External", "hosts": hosts, "ports": [{"name": "p", "port": port, "protocol": "tls"}],
        });
        read(spec).unwrap()
    };
    let one = service(&["a.example.com"], 443);
    for (hosts, port, count) in [
        (&["*.example.com"][..], 443, 1),
        (&["*.example.com"], 80, 0),
        (&["b.example.com"], 443, 0),
        (&["a.example.com", "*.example.com"], 443, 2),
    ] {
        assert_eq!(
            crate::overlaps(&one, &service(hosts, port)).len(),
            count,
            "{hosts:?} {port}"
        );
    }
}

#[test]
fn an_empty_list_is_refused_and_so_is_a_service_that_nobody_offers() {
    for field in ["workloads", "hosts", "allowAddresses"] {
        let mut spoilt = spec();
        spoilt[field] = serde_json::json!([]);
        assert!(
            serde_json::from_value::<ServiceSpec>(spoilt).is_err(),
            "{field}"
        );
    }
    for (kind, path) in [("Mesh", "spec.workloads"), ("External", "spec.hosts")] {
        let ports = serde_json::json!([{"name": "p", "port": 1, "protocol": "tcp"}]);
        let nobody = serde_json::json!({"type": kind, "ports": ports});
        assert_eq!(read(nobody).unwrap_err().path, path);
    }
}

#[test]
fn fields_that_do_not_exist_are_refused() {
    let mut spoilt = spec();
    spoilt["ports"][0]["targetport"] = 1.into();
    assert!(serde_json::from_value::<ServiceSpec>(spoilt).is_err());
}

#[test]
fn a_server_name_that_is_too_long_names_its_port() {
    let service = read(spec()).unwrap();
    let label = "a".repeat(61);
    let long: TrustDomain = format!("{label}.{label}.{label}.{label}").parse().unwrap();
    assert_eq!(
        service.check_server_names(&long).unwrap_err().path,
        "spec.ports[0].name"
    );
    assert_eq!(
        service.check_server_names(&"weft.local".parse().unwrap()),
        Ok(())
    );
}
