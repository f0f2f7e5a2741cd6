//! Names that peers send, and join tokens.

use weft_identity::{JoinToken, SpiffeId, TrustDomain, parse_mesh_host, parse_server_name};

/// A name that is read is written as the same name, in lower case.
pub(super) fn server_name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let trust_domain: TrustDomain = "weft.local".parse().expect("a trust domain");
    let lowered = text.to_ascii_lowercase();
    if let Ok(target) = parse_server_name(text, &trust_domain) {
        let written = weft_identity::server_name(&target, &trust_domain);
        assert_eq!(written, Ok(lowered.clone()));
        assert_eq!(target.to_string().parse(), Ok(target));
    }
    if let Some(service) = parse_mesh_host(text, &trust_domain) {
        let short = format!("{}.{}", service.name, service.namespace);
        let spelled = lowered.strip_suffix('.').unwrap_or(&lowered);
        let full = format!("{short}.{trust_domain}");
        assert!(spelled == short || spelled == full, "{text:?} is {service}");
    }
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.as_str(), text);
        if let Some(workload) = id.workload() {
            assert_eq!(SpiffeId::for_workload(&id.trust_domain(), &workload), id);
        }
    }
}

/// A token has one text.
pub(super) fn join_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match text.parse::<JoinToken>() {
        Ok(token) => assert_eq!(*token.to_text(), *text.trim()),
        Err(error) => {
            // Errors are logged: they quote nothing that could be the secret.
            let secret = text.split('.').nth(1).unwrap_or_default();
            let could_be_one = secret.len() >= 16
                && secret
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            assert!(!could_be_one || !error.to_string().contains(secret));
        }
    }
}
