// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pods of a container runtime (containerd, CRI-O), by the interface that the kubelet also
//! uses: CRI, gRPC over a Unix socket.
use std::{io, net::IpAddr};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{Request, Version};
use prost::Message;

use super::{
    line::{Line, MOST_BYTES, PATIENCE, endless},
    said::{MOST_NAMES, Said, pod},
};

/// The runtimes' usual sockets.
pub(super) const SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
];
/// Limit on the list of sandboxes, in bytes: an empty sandbox takes two bytes here, and fifty times
/// as many in memory.
const MOST_LIST: usize = 4 << 20;
/// What precedes a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

// The messages of runtime.v1, reduced to the fields used here.

#[derive(Clone, PartialEq, Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodMetadata>,
    /// 0 for a running one.
    #[prost(int32, tag = "3")]
    state: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, optional, tag = "5")]
    network: Option<Network>,
    #[prost(message, optional, tag = "6")]
    linux: Option<Linux>,
}

#[derive(Clone, PartialEq, Message)]
struct Network {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    others: Vec<OtherIp>,
}

#[derive(Clone, PartialEq, Message)]
struct OtherIp {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct Linux {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(message, optional, tag = "2")]
    options: Option<NamespaceOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceOptions {
    /// 2 for the host's network.
    #[prost(int32, tag = "1")]
    network: i32,
}

impl Status {
    fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let options = self.linux.and_then(|l| l.namespaces).and_then(|n| n.options);
        let own = options.is_none_or(|options| options.network != 2);
        let network = self.network.filter(|_| own).unwrap_or_default();
        let others = network.others.into_iter().map(|other| other.ip);
        std::iter::once(network.ip).chain(others).filter_map(|ip| ip.parse().ok())
    }
}

/// The running pods.
pub(super) fn pods(line: Line) -> io::Result<Said> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut told = Said::default();
    let asked = async { tokio::time::timeout(PATIENCE, ask(line, &mut told)).await };
    let done = runtime.block_on(asked).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    // Answers received in time count.
    if told == Said::default() { done.map(|()| told) } else { Ok(told) }
}

async fn ask(line: Line, told: &mut Said) -> io::Result<()> {
    const WINDOW: u32 = 1 << 20;
    let socket = tokio::net::UnixStream::from_std(line.socket)?;
    let mut builder = client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let (client, connection) = builder.handshake(socket).await.map_err(io::Error::other)?;
    // The connection ends with the queries.
    tokio::spawn(async move { drop(connection.await) });
    let mut client = client;
    let (mut list, mut left) = (MOST_LIST, MOST_BYTES);
    let all: Sandboxes = call(&mut client, "ListPodSandbox", &(), &mut list).await?;
    for Sandbox { id, metadata, state } in all.items {
        let Some(PodMetadata { name, namespace }) = metadata.filter(|_| state == 0) else {
            continue;
        };
        let Some(name) = pod(&namespace, &name) else { continue };
        let question = StatusRequest { id };
        let answer = call(&mut client, "PodSandboxStatus", &question, &mut left).await;
        let status = match answer {
            Ok(StatusAnswer { status }) => status,
            // The pod has ended meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let room = MOST_NAMES - told.inner.len();
        let addresses = status.into_iter().flat_map(Status::addresses).take(room);
        told.inner.extend(addresses.map(|address| (address, name.clone())));
    }
    Ok(())
}

/// Makes one call. `left` is how many more bytes of answers are accepted.
async fn call<T: Message + Default>(
    client: &mut SendRequest<Bytes>,
    method: &str,
    question: &impl Message,
    left: &mut usize,
) -> io::Result<T> {
    let request = Request::post(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(io::Error::other)?;
    let body = question.encode_to_vec();
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let framed = [&[0], &length.to_be_bytes()[..], &body].concat();
    std::future::poll_fn(|cx| client.poll_ready(cx)).await.map_err(io::Error::other)?;
    let (answer, mut stream) = client.send_request(request, false).map_err(io::Error::other)?;
    stream.send_data(framed.into(), true).map_err(io::Error::other)?;
    let mut body = answer.await.map_err(io::Error::other)?.into_body();
    let mut all = Vec::new();
    while let Some(some) = body.data().await {
        let some = some.map_err(io::Error::other)?;
        *left = left.checked_sub(some.len()).ok_or_else(endless)?;
        body.flow_control().release_capacity(some.len()).map_err(io::Error::other)?;
        all.extend_from_slice(&some);
    }
    // A refusal has only a status and no message.
    match all.get(PREFIX..) {
        Some(message) if all[0] == 0 => T::decode(message).map_err(io::Error::other),
        Some(_) => Err(io::Error::other("a compressed answer")),
        None => Err(io::Error::new(io::ErrorKind::NotFound, format!("{method} was refused"))),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, thread};

    use super::*;

    /// A runtime with these pods; it answers `answers` questions, and no more.
    fn runtime(pods: Vec<(Sandbox, Option<Status>)>, answers: usize) -> Line {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        for socket in [&ours, &theirs] {
            socket.set_nonblocking(true).expect("set");
        }
        let serve = async move {
            let socket = tokio::net::UnixStream::from_std(theirs)?;
            let mut connection = h2::server::handshake(socket).await.map_err(io::Error::other)?;
            let mut left = answers;
            while let Some(asked) = connection.accept().await {
                let (request, mut reply) = asked.map_err(io::Error::other)?;
                let (head, mut body) = request.into_parts();
                assert_eq!(head.headers["content-type"], "application/grpc");
                let mut question = Vec::new();
                while let Some(some) = body.data().await {
                    question.extend_from_slice(&some.map_err(io::Error::other)?);
                }
                let question = &question[PREFIX..];
                let Some(n) = left.checked_sub(1) else {
                    std::future::pending::<()>().await;
                    return Ok(());
                };
                left = n;
                let answer = match head.uri.path() {
                    "/runtime.v1.RuntimeService/ListPodSandbox" => {
                        let items = pods.iter().map(|(sandbox, _)| sandbox.clone()).collect();
                        Some(Sandboxes { items }.encode_to_vec())
                    }
                    "/runtime.v1.RuntimeService/PodSandboxStatus" => {
                        let id = StatusRequest::decode(question).expect("a question").id;
                        let status = pods.iter().find(|(s, _)| s.id == id);
                        let status = status.and_then(|(_, status)| status.clone());
                        status.map(|status| StatusAnswer { status: Some(status) }.encode_to_vec())
                    }
                    path => panic!("{path}"),
                };
                let mut stream = reply
                    .send_response(http::Response::new(()), answer.is_none())
                    .map_err(io::Error::other)?;
                if let Some(answer) = answer {
                    let length = (answer.len() as u32).to_be_bytes();
                    let framed = [&[0], &length[..], &answer].concat();
                    stream.send_data(framed.into(), true).map_err(io::Error::other)?;
                }
            }
            io::Result::Ok(())
        };
        thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = runtime.expect("a runtime").block_on(serve); // until the other side closes
        });
        Line::over(ours)
    }

    fn sandbox(name: &str, state: i32) -> Sandbox {
        let metadata = PodMetadata { name: name.to_owned(), namespace: "shop".to_owned() };
        Sandbox { id: format!("{name}-id"), metadata: Some(metadata), state }
    }

    fn status(ip: &str, others: &[&str], network: i32) -> Option<Status> {
        let others = others.iter().map(|ip| OtherIp { ip: (*ip).to_owned() }).collect();
        let options = Some(NamespaceOptions { network });
        Some(Status {
            network: Some(Network { ip: ip.to_owned(), others }),
            linux: Some(Linux { namespaces: Some(Namespaces { options }) }),
        })
    }

    fn named(told: &Said) -> Vec<String> {
        told.inner.iter().map(|(address, name)| format!("{address} {name}")).collect()
    }

    #[test]
    fn running_pods_have_addresses() {
        let all = vec![
            (sandbox("cart", 0), status("10.244.0.5", &["fd00::5"], 0)),
            (sandbox("gone", 1), status("10.244.0.6", &[], 0)),
            (sandbox("proxy", 0), status("192.0.2.1", &[], 2)), // the host's own address
            (sandbox("removed", 0), None),
            (sandbox("web", 0), status("10.244.0.7", &["nonsense"], 0)),
        ];
        let told = pods(runtime(all, 100)).expect("an answer");
        assert_eq!(
            named(&told),
            ["10.244.0.5 shop/cart", "fd00::5 shop/cart", "10.244.0.7 shop/web"]
        );
        assert_eq!(pods(runtime(Vec::new(), 100)).expect("an answer"), Said::default());
    }

    #[test]
    fn partial_answers_before_a_timeout_count() {
        let pod = |i: u8| (sandbox(&format!("p{i}"), 0), status(&format!("10.0.0.{i}"), &[], 0));
        let all: Vec<_> = (0..10).map(pod).collect();
        assert_eq!(pods(runtime(all.clone(), 4)).expect("some").inner.len(), 3);
        let none = pods(runtime(all, 0)).expect_err("nothing");
        assert_eq!(none.kind(), io::ErrorKind::TimedOut);
    }
}
