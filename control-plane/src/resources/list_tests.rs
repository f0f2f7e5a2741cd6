use super::*;

fn service(namespace: &str, name: &str, set: &str) -> v1::Resource {
    v1::Resource {
        metadata: Some(v1::Metadata {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ..Default::default()
        }),
        revision: 1,
        set: set.to_owned(),
        spec: Some(v1::resource::Spec::Service(v1::ServiceSpec::default())),
    }
}

fn names(page: &v1::ListResponse) -> Vec<String> {
    page.resources
        .iter()
        .map(|resource| resource.metadata.clone().unwrap().name)
        .collect()
}

fn request(page_size: u32, page_token: &str) -> v1::ListRequest {
    v1::ListRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition_though_resources_come_and_go() {
    let all: Vec<_> = ["a", "b", "c", "d", "e"]
        .map(|name| service("shop", name, ""))
        .into();
    let first = page(&request(2, ""), all.clone(), 1).unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    // `b` goes, on which the token stands, and `a2` comes before it.
    let mut changed: Vec<_> = all
        .into_iter()
        .filter(|resource| resource.metadata.as_ref().unwrap().name != "b")
        .collect();
    changed.push(service("shop", "a2", ""));
    let second = page(&request(2, &first.next_page_token), changed.clone(), 2).unwrap();
    assert_eq!(names(&second), ["c", "d"]);
    let third = page(&request(2, &second.next_page_token), changed, 2).unwrap();
    assert_eq!(
        (names(&third), third.next_page_token.as_str()),
        (vec!["e".to_owned()], "")
    );
}

#[test]
fn an_exact_last_page_has_no_token() {
    let all: Vec<_> = ["a", "b"].map(|name| service("shop", name, "")).into();
    assert_eq!(page(&request(2, ""), all, 1).unwrap().next_page_token, "");
}

#[test]
fn a_list_is_narrowed_by_kind_namespace_and_set() {
    let all = vec![
        service("shop", "a", "one"),
        service("shop", "b", "two"),
        service("bank", "c", "one"),
    ];
    let ask = |kind: &str, namespace: &str, set: &str| {
        let request = v1::ListRequest {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            set: set.to_owned(),
            ..Default::default()
        };
        names(&page(&request, all.clone(), 1).unwrap())
    };
    assert_eq!(ask("Service", "", ""), ["c", "a", "b"]);
    assert_eq!(ask("", "shop", ""), ["a", "b"]);
    assert_eq!(ask("", "", "one"), ["c", "a"]);
    assert!(ask("Allow", "", "").is_empty());
}

#[test]
fn what_no_page_can_be_made_of_is_refused() {
    for request in [
        request(5001, ""),
        request(0, "%%%"),
        request(0, "bm9uc2Vuc2U"),
        v1::ListRequest {
            kind: "Pod".to_owned(),
            ..Default::default()
        },
    ] {
        let refused = page(&request, Vec::new(), 1).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}
