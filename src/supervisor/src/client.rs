//! `skep svc`: asks the skepd that runs, over its socket.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::args::{Format, Svc, Which};
use crate::files;
use crate::log::{print, tell};
use crate::render::{render_table, render_tree};

/// Performs a verb.
///
/// # Errors
/// skepd is not there, or refuses.
pub async fn perform(socket: &Path, verb: Svc) -> Result<ExitCode> {
    match verb {
        Svc::Ls { names, label, output } => {
            let services = select(socket, &names, label.as_deref()).await?;
            let text = if output == Format::Json { pretty(&services)? } else { render_table(&services) };
            print(&text)?;
        }
        Svc::Status { which, output } => return status(socket, &which, output).await,
        Svc::Why(which) => {
            for service in chosen(socket, &which).await? {
                let why = service["why"].as_array().cloned().unwrap_or_default();
                let name = service["name"].as_str().unwrap_or_default();
                let why: Vec<&str> = why.iter().filter_map(Value::as_str).collect();
                print(&format!(
                    "{name}: {}\n",
                    if why.is_empty() { "nothing is in its way".to_owned() } else { why.join("; ") }
                ))?;
            }
        }
        Svc::Apply { files } => return apply(socket, &files).await,
        Svc::Rm(which) => return each(socket, &which, "DELETE", "").await,
        Svc::Start(which) => return act(socket, &which, "start").await,
        Svc::Stop(which) => return act(socket, &which, "stop").await,
        Svc::Restart(which) => return act(socket, &which, "restart").await,
        Svc::Freeze(which) => return act(socket, &which, "freeze").await,
        Svc::Thaw(which) => return act(socket, &which, "thaw").await,
        Svc::Clear(which) => return act(socket, &which, "clear").await,
        Svc::Abort(which) => return act(socket, &which, "abort").await,
        Svc::Provision(which) => return act(socket, &which, "provision").await,
        Svc::Unprovision(which) => return act(socket, &which, "unprovision").await,
        Svc::Scale { name, replicas } => {
            let path = format!("/v1/services/{name}/actions/scale");
            ask(socket, "POST", &path, json!({"replicas": replicas}).to_string()).await?;
        }
        Svc::Events { after } => events(socket, after).await?,
        Svc::Audit { after } => audit(socket, after).await?,
        Svc::Reload => drop(ask(socket, "POST", "/v1/reload", String::new()).await?),
    }
    Ok(ExitCode::SUCCESS)
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot render JSON")? + "\n")
}

async fn send(socket: &Path, method: &str, path: &str, body: String) -> Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.with_context(|| format!("cannot reach skepd at {}: does it run?", socket.display()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("cannot talk to skepd")?;
    // What goes wrong with the connection is told by the request.
    tokio::spawn(async move { drop(connection.await) });
    let request =
        Request::builder().method(method).uri(path).header("host", "skepd").body(Full::new(Bytes::from(body)));
    let request = request.with_context(|| format!("cannot ask for {path}"))?;
    let reply = sender.send_request(request).await.context("skepd does not answer")?;
    if reply.status().is_success() {
        return Ok(reply);
    }
    let status = reply.status();
    let body = reply.into_body().collect().await.context("skepd breaks off")?.to_bytes();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    match said["error"].as_str() {
        Some(error) => bail!("{error}"),
        None => bail!("skepd answers {status}"),
    }
}

async fn ask(socket: &Path, method: &str, path: &str, body: String) -> Result<Value> {
    let reply = send(socket, method, path, body).await?;
    let body = reply.into_body().collect().await.context("skepd breaks off")?.to_bytes();
    serde_json::from_slice(&body).context("cannot read the answer of skepd")
}

async fn select(socket: &Path, names: &[String], label: Option<&str>) -> Result<Vec<Value>> {
    let all = ask(socket, "GET", "/v1/services", String::new()).await?;
    let all = all.as_array().cloned().unwrap_or_default();
    let fits = |service: &Value| {
        let name = service["name"].as_str().unwrap_or_default();
        let named = names.is_empty() || names.iter().any(|pattern| matches(pattern, name));
        let labelled = label.is_none_or(|label| {
            label.split_once('=').is_some_and(|(key, value)| service["labels"][key].as_str() == Some(value))
        });
        named && labelled
    };
    Ok(all.into_iter().filter(fits).collect())
}

/// Those that were chosen; that there is none is an error.
async fn chosen(socket: &Path, which: &Which) -> Result<Vec<Value>> {
    let services = select(socket, &which.names, which.label.as_deref()).await?;
    if services.is_empty() {
        bail!("no service is {}", which.names.iter().chain(&which.label).cloned().collect::<Vec<_>>().join(", "));
    }
    Ok(services)
}

/// Whether a pattern with `*` and `?` fits a name.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.into_iter().any(|at| matches(rest.as_str(), &name[at..]))
        }
        Some(wanted) => {
            let mut left = name.chars();
            left.next().is_some_and(|is| wanted == '?' || wanted == is) && matches(rest.as_str(), left.as_str())
        }
    }
}

async fn status(socket: &Path, which: &Which, output: Format) -> Result<ExitCode> {
    let services = chosen(socket, which).await?;
    let text = match output {
        Format::Json => pretty(&services)?,
        Format::Table => services.iter().map(render_tree).collect(),
    };
    print(&text)?;
    let good = services.iter().all(|service| matches!(service["overall"].as_str(), Some("up" | "stopped")));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn apply(socket: &Path, paths: &[std::path::PathBuf]) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        let done = match files::read(path) {
            Ok((definition, text)) => {
                ask(socket, "PUT", &format!("/v1/services/{}", definition.name), text).await.map(drop)
            }
            Err(findings) => {
                let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
                Err(anyhow::anyhow!("{}", findings.join("\n  ")))
            }
        };
        if let Err(error) = done {
            tell(&format!("error: {}: {error:#}", path.display()));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn act(socket: &Path, which: &Which, verb: &str) -> Result<ExitCode> {
    each(socket, which, "POST", &format!("/actions/{verb}")).await
}

/// Asks something of each of the chosen; the others are asked where one refuses.
async fn each(socket: &Path, which: &Which, method: &str, below: &str) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for service in chosen(socket, which).await? {
        let path = format!("/v1/services/{}{below}", service["name"].as_str().unwrap_or_default());
        if let Err(error) = ask(socket, method, &path, String::new()).await {
            tell(&format!("error: {error:#}"));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn events(socket: &Path, after: Option<u64>) -> Result<()> {
    let path = after.map_or("/v1/events".to_owned(), |after| format!("/v1/events?after={after}"));
    let mut body = send(socket, "GET", &path, String::new()).await?.into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.context("skepd breaks off")?.data_ref() {
            text.push_str(&String::from_utf8_lossy(data));
        }
        while let Some((line, rest)) = text.split_once('\n') {
            if let Some(entry) = line.strip_prefix("data: ") {
                print(&format!("{entry}\n"))?;
            }
            text = rest.to_owned();
        }
    }
    Ok(())
}

async fn audit(socket: &Path, mut after: u64) -> Result<()> {
    loop {
        let page = ask(socket, "GET", &format!("/v1/audit?after={after}"), String::new()).await?;
        let page = page.as_array().cloned().unwrap_or_default();
        let Some(last) = page.last().and_then(|entry| entry["revision"].as_u64()) else { return Ok(()) };
        print(&page.iter().map(|entry| format!("{entry}\n")).collect::<String>())?;
        after = last;
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name) in [("web", "web"), ("w*", "web"), ("*", ""), ("*b", "web"), ("w?b", "web"), ("*-*", "a-b")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("web", "web1"), ("w?", "web"), ("*c", "web"), ("", "a"), ("?", "")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
