//! Getting the operator's certificate over the control plane's Unix socket, which only the same user can open.
//!
//! Invariant: the key is made here, and the certificate is verified before it is believed or written.

use std::path::Path;

use anyhow::{Context as _, bail};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::net::UnixStream;
use tower::service_fn;
use weft_identity::{DnsLabel, Purpose, SpiffeId, TrustBundle, new_key_and_csr, verify_svid};
use weft_wire::v1;

use crate::client::{endpoint, innermost, refused};
use crate::context::{self, Context, Settings};
use crate::failure::{SaysNo, Unreachable};

/// Logs in as `operator` and writes the context into `folder`.
pub(crate) async fn login(
    socket: &Path,
    operator: &DnsLabel,
    folder: &Path,
) -> anyhow::Result<Context> {
    let made = new_key_and_csr().context(SaysNo::new("cannot make a key"))?;
    let answer = ask(socket, operator, &made.csr_der).await?;
    let chain: Vec<CertificateDer<'static>> = answer
        .chain
        .iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let Some(bundle) = answer.bundle else {
        bail!(SaysNo::new("the control plane sent no trust bundle"))
    };
    let bundle = TrustBundle::try_from(&bundle)
        .context("the control plane sent a trust bundle that cannot be read")?;
    verify(&chain, &bundle, operator)?;
    let settings = Settings {
        trust_domain: bundle.trust_domain.clone(),
        operator: operator.clone(),
        api: answer.api_address,
        attestation: answer.attestation_address,
        operator_socket: Some(std::path::absolute(socket)?),
    };
    context::save(folder, &settings, &chain, &made.key_pkcs8, &bundle.roots)?;
    Ok(Context {
        folder: folder.to_owned(),
        settings,
        chain,
        key: context::private_key(&made.key_pkcs8),
        bundle,
    })
}

/// The context as it is, or with a new certificate when the old one ends soon and its control plane runs here.
pub(crate) async fn fresh(context: Context) -> anyhow::Result<Context> {
    let now = Timestamp::now();
    let ends = match verify_svid(&context.chain, &context.bundle, Purpose::ClientAuth, now) {
        Ok(verified) if verified.not_after > now + RENEW_BEFORE => return Ok(context),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    if let Some(socket) = context
        .settings
        .operator_socket
        .as_deref()
        .filter(|socket| socket.exists())
        && let Ok(renewed) = login(socket, &context.settings.operator, &context.folder).await
    {
        return Ok(renewed);
    }
    match ends {
        None => Ok(context),
        Some(error) => Err(anyhow::Error::new(error).context(
            "the operator's certificate is no longer good; `meshctl login` makes a new one",
        )),
    }
}

async fn ask(
    socket: &Path,
    operator: &DnsLabel,
    csr: &[u8],
) -> anyhow::Result<v1::OperatorLoginResponse> {
    let path = socket.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = endpoint()
        .connect_with_connector(connector)
        .await
        .map_err(|error| Unreachable {
            address: socket.display().to_string(),
            problem: innermost(&error),
        })?;
    let request = v1::OperatorLoginRequest {
        csr: csr.to_vec().into(),
        name: operator.to_string(),
    };
    let answer = v1::operator_login_client::OperatorLoginClient::new(channel)
        .login(request)
        .await;
    Ok(answer.map_err(refused)?.into_inner())
}

fn verify(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    operator: &DnsLabel,
) -> anyhow::Result<()> {
    let verified = verify_svid(chain, bundle, Purpose::ClientAuth, Timestamp::now())
        .context("the control plane sent a certificate that does not verify")?;
    if verified.id != SpiffeId::for_operator(&bundle.trust_domain, operator) {
        bail!(SaysNo(format!(
            "the control plane sent a certificate for {}",
            verified.id
        )));
    }
    Ok(())
}

const RENEW_BEFORE: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
