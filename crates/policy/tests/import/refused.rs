//! What cannot be imported says what, where and why.

use weft_identity::document::Origin;
use weft_policy::import::{ImportError, Importer};

use crate::corpus::options;

fn reading(text: &str) -> String {
    let origin = Origin {
        file: "x.yaml".to_owned(),
        first_line: 10,
    };
    Importer::default()
        .read(text, &origin)
        .unwrap_err()
        .to_string()
}

fn converting(texts: &[&str]) -> ImportError {
    let mut importer = Importer::default();
    for text in texts {
        importer
            .read(
                text,
                &Origin {
                    file: "x.yaml".to_owned(),
                    first_line: 10,
                },
            )
            .unwrap();
    }
    importer.convert(&options()).unwrap_err()
}

const NETWORK: &str =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\n";
const ISTIO: &str =
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n";
const SERVER: &str = "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: a}\n";

#[test]
fn values_that_no_reference_knows_are_errors_with_their_place() {
    for (text, expected) in [
        (
            format!("{NETWORK}spec: {{policyTypes: [Both]}}"),
            "x.yaml:13:22: unknown value `Both`",
        ),
        (
            format!("{NETWORK}spec:\n  ingress:\n  - form: []"),
            "x.yaml:15:5: unknown field `form`, did you mean `from`?",
        ),
        (
            format!("{NETWORK}spec: {{ingress: [{{ports: [{{port: \"80\"}}]}}]}}"),
            "a number has no quotes",
        ),
        (
            format!("{NETWORK}spec: {{ingress: [{{ports: [{{port: 70000}}]}}]}}"),
            "1 to 65535",
        ),
        (
            format!("{NETWORK}spec: {{ingress: [{{ports: [{{protocol: tcp}}]}}]}}"),
            "unknown value `tcp`",
        ),
        (
            format!("{ISTIO}spec: {{action: PERMIT}}"),
            "x.yaml:13:16: unknown value `PERMIT`",
        ),
        (
            format!("{ISTIO}spec: {{rules: [{{when: [{{key: request.header, values: [a]}}]}}]}}"),
            "unknown attribute `request.header`",
        ),
        (
            format!("{ISTIO}spec: {{rules: [{{to: [{{operation: {{ports: [http]}}}}]}}]}}"),
            "`http` is not a port number",
        ),
        (
            format!("{SERVER}spec: {{podSelector: {{}}, port: 1, accessPolicy: open}}"),
            "unknown value `open`",
        ),
        (
            format!("{SERVER}spec: {{podSelector: {{}}, port: 1, proxyProtocol: http}}"),
            "unknown value `http`",
        ),
        (
            format!("{SERVER}spec: {{podSelector: {{}}, port: 1}}\nstatsu: {{}}"),
            "x.yaml:14:1: unknown field `statsu`, did you mean `status`?",
        ),
    ] {
        let problem = reading(&text);
        assert!(problem.starts_with("x.yaml:1"), "{problem}");
        assert!(problem.contains(expected), "{text}\n{problem}");
    }
}

#[test]
fn kinds_that_could_restrict_traffic_are_refused_and_others_pass() {
    for (version, kind) in [
        ("cilium.io/v2", "CiliumNetworkPolicy"),
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"),
        ("networking.k8s.io/v1beta1", "NetworkPolicy"),
        ("security.istio.io/v1", "PeerAuthentication"),
        ("policy.linkerd.io/v1alpha1", "EgressNetwork"),
        ("policy.linkerd.io/v2", "Server"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("weft.dev/v1", "Allow"),
    ] {
        let problem = reading(&format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}"
        ));
        assert!(
            problem.starts_with(&format!("x.yaml:10: `{version} {kind}` is not imported")),
            "{problem}"
        );
    }
    let list = reading(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy}",
    );
    assert!(list.contains("CiliumNetworkPolicy"), "{list}");
    for (version, kind) in [
        ("v1", "Secret"),
        ("networking.k8s.io/v1", "Ingress"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ] {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{a: {{b: c}}}}"
        );
        let mut importer = Importer::default();
        importer.read(&text, &Origin::file("x.yaml")).unwrap();
        assert!(importer.sources().is_empty());
    }
}

#[test]
fn an_unknown_field_in_a_list_has_its_place_in_the_file() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: a}\n  spec:\n    podSelektor: {}\n";
    assert!(
        reading(list).starts_with("x.yaml:17:5: unknown field `podSelektor`"),
        "{}",
        reading(list)
    );
    // the items of an API's own list may leave their kind to it, also where they come first
    let own = "items:\n- metadata: {name: a}\n  spec: {podSelektor: {}}\nkind: NetworkPolicyList\napiVersion: networking.k8s.io/v1\n";
    assert!(
        reading(own).starts_with("x.yaml:12:10: unknown field `podSelektor`"),
        "{}",
        reading(own)
    );
}

#[test]
fn what_contradicts_itself_is_an_error_of_its_document() {
    for (text, expected) in [
        (
            format!("{NETWORK}spec: {{ingress: [{{from: [{{}}]}}]}}"),
            "either selectors or an `ipBlock`",
        ),
        (
            format!("{NETWORK}spec: {{ingress: [{{ports: [{{endPort: 9}}]}}]}}"),
            "endPort",
        ),
        (
            format!("{NETWORK}spec: {{egress: [{{ports: [{{port: 9, endPort: 8}}]}}]}}"),
            "endPort",
        ),
        (
            format!("{ISTIO}spec: {{selector: {{}}, targetRef: {{kind: Service, name: a}}}}"),
            "at most one",
        ),
        (format!("{ISTIO}spec: {{action: CUSTOM}}"), "`provider`"),
        (
            format!("{ISTIO}spec: {{provider: {{name: a}}}}"),
            "`provider`",
        ),
        (
            format!("{ISTIO}spec: {{rules: [{{when: [{{key: source.ip}}]}}]}}"),
            "`values` or `notValues`",
        ),
        (
            format!(
                "{ISTIO}spec: {{rules: [{{when: [{{key: destination.port, values: [http]}}]}}]}}"
            ),
            "a port is a number",
        ),
        (
            format!(
                "{ISTIO}spec: {{rules: [{{from: [{{source: {{serviceAccounts: [a], namespaces: [b]}}}}]}}]}}"
            ),
            "`serviceAccounts`",
        ),
        (
            format!("{SERVER}spec: {{port: 1}}"),
            "`podSelector` or `externalWorkloadSelector`",
        ),
    ] {
        let ImportError::Document { at, problem } = converting(&[&text]) else {
            panic!("{text}");
        };
        assert_eq!(at, "x.yaml:10");
        assert!(problem.contains(expected), "{text}\n{problem}");
    }
    let istio = format!("{ISTIO}spec: {{}}");
    let server = format!("{SERVER}spec: {{podSelector: {{}}, port: 1}}");
    assert_eq!(converting(&[&istio, &server]), ImportError::TwoMeshes);
}

#[test]
fn nothing_of_a_source_ends_the_comment_that_it_stands_in() {
    let mut importer = Importer::default();
    crate::corpus::read_file(&mut importer, &crate::corpus::folder().join("cluster.yaml"));
    let paths = r#"["*.html\n---\nkind: Allow", "*\u2028x", "*\u0085y", "*\rz"]"#;
    let text = format!(
        "{{\"apiVersion\": \"security.istio.io/v1\", \"kind\": \"AuthorizationPolicy\", \"metadata\": {{\"name\": \"a\", \"namespace\": \"shop\"}}, \
         \"spec\": {{\"rules\": [{{\"to\": [{{\"operation\": {{\"paths\": {paths}}}}}]}}]}}}}"
    );
    importer.read(&text, &Origin::file("x.json")).unwrap();
    let import = importer.convert(&options()).unwrap();
    let shown: Vec<String> = import.notes().map(ToString::to_string).collect();
    let of_paths: Vec<&String> = shown
        .iter()
        .filter(|note| note.starts_with("path: "))
        .collect();
    assert_eq!(of_paths.len(), 4, "{shown:?}");
    for note in shown {
        assert!(
            !note.contains(['\n', '\r', '\u{85}', '\u{2028}']),
            "{note:?}"
        );
    }
}
