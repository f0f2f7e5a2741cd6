//! The four exit codes against a live control plane: 0 yes, 1 no, 2 a usage or input error, 3 nobody answers.

use weft_tests::Mesh;

const RULE: &str = "\
apiVersion: weft.dev/v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {workloads: [shop/api], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: weft.dev/v1
kind: Allow
metadata: {name: web, namespace: shop}
spec: {to: {service: api, ports: [http]}, from: [shop/web]}
";

#[tokio::test]
async fn every_answer_has_its_code() {
    let mut mesh = Mesh::start().await;
    let misspelt = RULE.replace("from:", "form:");
    let test = |expect: &str| {
        format!(
            "apiVersion: weft.dev/v1\nkind: PolicyTest\nmetadata: {{name: t}}\nspec:\n  cases:\n  - {{name: c, from: shop/web, \
             to: \"shop/api:http\", method: GET, path: /, expect: {expect}}}\n"
        )
    };
    let (passes, differs) = (test("allow"), test("deny"));
    let steps: &[(i32, &[&str], &str)] = &[
        (1, &["diff", "-f", "-"], RULE),
        (0, &["apply", "-f", "-", "--dry-run"], RULE),
        (0, &["apply", "-f", "-"], RULE),
        (0, &["diff", "-f", "-"], RULE),
        (2, &["apply", "-f", "-"], &misspelt),
        (2, &["apply", "-f", "-"], ""),
        (2, &["apply", "-f", "missing.yaml"], ""),
        (0, &["get", "allow", "shop/web"], ""),
        (1, &["get", "allow", "shop/nothing"], ""),
        (2, &["get", "alow"], ""),
        (2, &["get", "allow", "web"], ""),
        (
            0,
            &["policy", "explain", "shop/web", "shop/api:http", "GET", "/"],
            "",
        ),
        (
            1,
            &[
                "policy",
                "explain",
                "shop/other",
                "shop/api:http",
                "GET",
                "/",
            ],
            "",
        ),
        (
            2,
            &["policy", "explain", "no name", "shop/api:http", "GET", "/"],
            "",
        ),
        (0, &["policy", "test", "-"], &passes),
        (1, &["policy", "test", "-"], &differs),
        (2, &["policy", "test", "-"], RULE),
        (1, &["why", "01K9ZQ0W8Y5N2V7C3B1M4T6R8D"], ""),
        (1, &["identity", "show", "shop/web"], ""),
        (2, &["identity", "show", "spiffe://"], ""),
        (0, &["identity", "list"], ""),
        (0, &["token", "create", "shop/web"], ""),
        (2, &["token", "create", "shop/web", "--ttl", "soon"], ""),
        (0, &["quarantine", "shop/web"], ""),
        (0, &["quarantine", "shop/web", "--lift"], ""),
        (1, &["quarantine", "shop/web", "--lift"], ""),
        (0, &["delete", "allow/shop/web"], ""),
        (1, &["delete", "allow/shop/web"], ""),
        (0, &["check"], ""),
        (0, &["sidecars"], ""),
        (2, &["sidecars", "--context", "nowhere"], ""),
        (0, &["--help"], ""),
        (2, &["frobnicate"], ""),
    ];
    for &(code, arguments, input) in steps {
        let ran = mesh.meshctl_with(arguments, input).await;
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        if code >= 2 {
            assert_eq!(ran.stdout, "", "{arguments:?}: an error is no answer");
            assert!(!ran.stderr.is_empty(), "{arguments:?}");
        }
    }
    mesh.control_plane.kill();
    for arguments in [
        &["sidecars"][..],
        &["check"],
        &["get", "all"],
        &["identity", "list"],
    ] {
        let ran = mesh.meshctl_with(arguments, "").await;
        assert_eq!(ran.code, 3, "{arguments:?}: {ran:?}");
    }
}
