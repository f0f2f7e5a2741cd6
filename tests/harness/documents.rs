//! Resource documents, written as briefly as tests want them.

/// A service with one port, offered by the workload of the same name. `target` is `namespace/service:port`.
pub fn service(target: &str, protocol: &str) -> String {
    let (namespace, name, port) = split(target);
    format!(
        "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  workloads: [{namespace}/{name}]\n  \
         ports: [{{name: {port}, port: 80, targetPort: 8080, protocol: {protocol}}}]\n"
    )
}

/// A rule without HTTP conditions. `target` is `namespace/service:port`.
pub fn allow(rule: &str, target: &str, from: &str) -> String {
    let (namespace, name, port) = split(target);
    format!(
        "---\napiVersion: weft.dev/v1\nkind: Allow\nmetadata: {{name: {rule}, namespace: {namespace}}}\n\
         spec:\n  to: {{service: {name}, ports: [{port}]}}\n  from: [\"{from}\"]\n"
    )
}

/// The same rule with HTTP conditions, in YAML's flow form: `{methods: [GET], paths: ["/a"]}`.
pub fn allow_http(rule: &str, target: &str, from: &str, conditions: &str) -> String {
    format!("{}  http: [{conditions}]\n", allow(rule, target, from))
}

fn split(target: &str) -> (&str, &str, &str) {
    let parsed = target.split_once('/').and_then(|(namespace, rest)| {
        let (name, port) = rest.split_once(':')?;
        Some((namespace, name, port))
    });
    parsed.unwrap_or_else(|| panic!("{target} is not namespace/service:port"))
}
