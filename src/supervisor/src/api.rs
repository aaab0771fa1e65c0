//! REST and JSON on a unix socket. Who calls is known by the kernel: root and the user of this program may.
//!
//! Each connection has bounds: time for its header and its body, bytes of both; and there are only so many at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::time::timeout;

use crate::audit::Entry;
use crate::daemon::{Answer, Ask, Input, Refusal, read_audit};
use crate::decide::Command;
use crate::log::tell;
use crate::writer::Writer;

/// Connections at once.
const CONNECTIONS: usize = 128;
/// For the header of a request; also the longest time between two requests.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// For its body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Most bytes of a header.
const HEADER_MAX: usize = 16 << 10;
/// Most bytes of a body.
const BODY_MAX: usize = 256 << 10;
/// Entries that one request for the audit log gets at most.
const AUDIT_PAGE: usize = 1000;
/// Between two comments of an event stream, which show whether somebody still reads.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Name, what it tells, and its value for a service.
type Gauge = (&'static str, &'static str, fn(&Value) -> u64);
type Reply = Response<Either<Full<Bytes>, Lines>>;

/// What a request may use.
#[derive(Debug, Clone)]
pub struct Api {
    /// The task that decides.
    pub inputs: mpsc::UnboundedSender<Input>,
    /// For the audit log.
    pub writer: Writer,
}

/// Lines that come one by one.
#[derive(Debug)]
pub struct Lines(mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// Answers for as long as the program runs.
pub async fn serve(listener: UnixListener, api: Api) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tell(&format!("error: cannot accept a connection: {error}"));
                // No descriptor is left, for one: others may end meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let api = api.clone();
        tokio::spawn(async move {
            // A client that breaks off harms itself alone.
            drop(converse(stream, api).await);
            drop(place);
        });
    }
}

async fn converse(stream: UnixStream, api: Api) -> Result<(), hyper::Error> {
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    let own = sys::process::effective_uid();
    let who = uid.filter(|uid| *uid == 0 || *uid == own).map(|uid| format!("uid {uid}"));
    let answer = service_fn(move |request| {
        let (api, who) = (api.clone(), who.clone());
        async move { Ok::<_, Infallible>(respond(&api, who.as_deref(), request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEADER_MAX);
    server.serve_connection(TokioIo::new(stream), answer).await
}

async fn respond(api: &Api, who: Option<&str>, request: Request<Incoming>) -> Reply {
    let Some(who) = who else { return refuse(&Refusal::new(403, "only root and the user of skepd may ask")) };
    match route(api, who, request).await {
        Ok(reply) => reply,
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(refusal: &Refusal) -> Reply {
    reply(refusal.status, "application/json", json!({"error": refusal.text}).to_string())
}

fn reply(status: u16, kind: &'static str, text: String) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(Bytes::from(text))));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    reply
}

async fn route(api: &Api, who: &str, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let is = |wanted: Method| if method == wanted { Ok(()) } else { Err(Refusal::new(405, format!("not {method}"))) };
    let ask = match parts.as_slice() {
        ["healthz"] => return is(Method::GET).map(|()| reply(200, "text/plain", "ok\n".to_owned())),
        ["readyz"] => {
            is(Method::GET)?;
            ask(api, who, Ask::List).await?;
            return Ok(reply(200, "text/plain", "ok\n".to_owned()));
        }
        ["metrics"] => {
            is(Method::GET)?;
            let services = ask(api, who, Ask::List).await?;
            return Ok(reply(200, "text/plain; version=0.0.4", render_metrics(&services)));
        }
        ["v1", "events"] => {
            is(Method::GET)?;
            return follow(api, &request).await;
        }
        ["v1", "audit"] => {
            is(Method::GET)?;
            let entries = read_audit(&api.writer, after(&request)?, AUDIT_PAGE).await;
            let entries = entries.map_err(|why| Refusal::new(500, why))?;
            return Ok(reply(200, "application/json", json!(entries).to_string()));
        }
        ["v1", "reload"] => is(Method::POST).map(|()| Ask::Reload)?,
        ["v1", "services"] => is(Method::GET).map(|()| Ask::List)?,
        ["v1", "services", name] => {
            let name = (*name).to_owned();
            match method {
                Method::GET => Ask::Show(name),
                Method::DELETE => Ask::Delete(name),
                Method::PUT => {
                    let generation = read_generation(&request)?;
                    Ask::Put(name, read_body(request).await?, generation)
                }
                _ => return Err(Refusal::new(405, format!("not {method}"))),
            }
        }
        ["v1", "services", name, "actions", verb] => {
            is(Method::POST)?;
            let (name, verb) = ((*name).to_owned(), (*verb).to_owned());
            read_action(name, &verb, &read_body(request).await?)?
        }
        _ => return Err(Refusal::new(404, format!("there is no {path}"))),
    };
    let said = self::ask(api, who, ask).await?;
    Ok(reply(200, "application/json", said.to_string()))
}

async fn ask(api: &Api, who: &str, ask: Ask) -> Answer {
    let (answer, said) = oneshot::channel();
    let gone = || Refusal::new(503, "skepd ends");
    api.inputs.send(Input::Ask(who.to_owned(), ask, answer)).map_err(|_| gone())?;
    said.await.map_err(|_| gone())?
}

async fn read_body(request: Request<Incoming>) -> Result<String, Refusal> {
    let body = timeout(BODY_TIME, Limited::new(request.into_body(), BODY_MAX).collect()).await;
    let body = body.map_err(|_| Refusal::new(408, "the body took too long"))?;
    let body = body.map_err(|error| Refusal::new(413, format!("cannot read the body: {error}")))?;
    String::from_utf8(body.to_bytes().to_vec()).map_err(|_| Refusal::new(400, "the body is no text"))
}

fn read_generation(request: &Request<Incoming>) -> Result<Option<u64>, Refusal> {
    let Some(value) = request.headers().get("if-match") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim_matches('"').parse().ok());
    number.map(Some).ok_or_else(|| Refusal::new(400, "if-match is no generation"))
}

fn read_action(name: String, verb: &str, body: &str) -> Result<Ask, Refusal> {
    let command = match verb {
        "start" => Command::Start,
        "stop" => Command::Stop,
        "restart" => Command::Restart,
        "freeze" => Command::Freeze,
        "thaw" => Command::Thaw,
        "clear" => Command::Clear,
        "abort" => Command::Abort,
        "provision" | "unprovision" => return Ok(Ask::Provision(name, verb == "provision")),
        "scale" => {
            let value: Value = serde_json::from_str(body).unwrap_or_default();
            let count = value["replicas"].as_u64().and_then(|count| u32::try_from(count).ok());
            Command::Scale(count.ok_or_else(|| Refusal::new(400, "want {\"replicas\": NUMBER}"))?)
        }
        _ => return Err(Refusal::new(404, format!("there is no action {verb:?}"))),
    };
    Ok(Ask::Command(name, command))
}

/// The revision that a request goes on after: of the query, or of an event stream that broke off.
fn after(request: &Request<Incoming>) -> Result<u64, Refusal> {
    let query = request.uri().query().and_then(|query| query.split('&').find_map(|part| part.strip_prefix("after=")));
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    query.or(header).map_or(Ok(0), |text| text.parse().map_err(|_| Refusal::new(400, "after is no revision")))
}

async fn follow(api: &Api, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let after = after(request)?;
    let (answer, said) = oneshot::channel();
    let gone = || Refusal::new(503, "skepd ends");
    api.inputs.send(Input::Follow(after, answer)).map_err(|_| gone())?;
    let (ready, receiver) = said.await.map_err(|_| gone())?;
    // What is older than what stands ready is on disk.
    let mut entries = Vec::new();
    if after > 0 || request.uri().query().is_some() {
        let first = ready.first().map_or(u64::MAX, |entry| entry.revision);
        let old = read_audit(&api.writer, after, usize::MAX).await.map_err(|why| Refusal::new(500, why))?;
        entries.extend(old.into_iter().filter(|entry| entry.revision < first).map(Arc::new));
        entries.extend(ready);
    }
    let (lines, body) = mpsc::channel(64);
    tokio::spawn(pass_on(entries, receiver, lines));
    let mut reply = Response::new(Either::Right(Lines(body)));
    reply.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("text/event-stream"));
    Ok(reply)
}

async fn pass_on(old: Vec<Arc<Entry>>, mut new: broadcast::Receiver<Arc<Entry>>, lines: mpsc::Sender<Bytes>) {
    let mut last = 0;
    for entry in old {
        last = entry.revision;
        if lines.send(render_event(&entry)).await.is_err() {
            return;
        }
    }
    loop {
        let line = match timeout(KEEP_ALIVE, new.recv()).await {
            Ok(Ok(entry)) if entry.revision <= last => continue,
            Ok(Ok(entry)) => render_event(&entry),
            // Too slow, or the end: the client comes back with the last revision that it has.
            Ok(Err(_)) => return,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

fn render_event(entry: &Entry) -> Bytes {
    let data = serde_json::to_string(entry).expect("texts and numbers always have a form in JSON");
    Bytes::from(format!("id: {}\nevent: {}\ndata: {data}\n\n", entry.revision, entry.what))
}

fn render_metrics(services: &Value) -> String {
    let mut text = String::new();
    let all = services.as_array().map_or(&[][..], Vec::as_slice);
    let gauges: [Gauge; 3] = [
        ("skepd_service_available", "Whether the fewest replicas are ready.", |s| u64::from(s["available"] == true)),
        ("skepd_service_ready", "Replicas that are ready.", |s| s["ready"].as_u64().unwrap_or(0)),
        ("skepd_service_scale", "Replicas that there shall be.", |s| s["scale"].as_u64().unwrap_or(0)),
    ];
    for (name, help, value) in gauges {
        text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        for service in all {
            let of = service["name"].as_str().unwrap_or_default();
            text += &format!("{name}{{service=\"{of}\"}} {}\n", value(service));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_a_number() {
        let read = |body| read_action("a".to_owned(), "scale", body);
        assert!(matches!(read("{\"replicas\": 3}"), Ok(Ask::Command(_, Command::Scale(3)))));
        for body in ["", "3", "{}", "{\"replicas\": -1}", "{\"replicas\": 4294967296}", "{\"replicas\": \"3\"}"] {
            assert_eq!(read(body).unwrap_err().status, 400, "{body}");
        }
        assert_eq!(read_action("a".to_owned(), "dance", "").unwrap_err().status, 404);
    }
}
