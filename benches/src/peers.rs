//! The proxies, each told to do the same work by a configuration in its own words.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// The measure of all ratios.
    Nginx,
    Haproxy,
    Envoy,
    Strangler,
}

/// What a proxy is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Half of the users to each of two backends.
    Split,
    /// All to the first backend, a copy of each request to the second.
    Mirror,
    /// The same, and the two answers compared.
    Compare,
    /// All to the first backend; the route covers the path, but nothing is copied.
    Quiet,
    /// All to the first backend, copies to one that never answers.
    Hanging,
}

/// Where things are.
#[derive(Debug)]
pub struct Place {
    /// Where configurations, logs and states go.
    pub folder: PathBuf,
    pub legacy: SocketAddr,
    pub extracted: SocketAddr,
    /// Accepts and never answers.
    pub hanging: SocketAddr,
}

impl Peer {
    pub const ALL: [Peer; 4] = [Peer::Nginx, Peer::Haproxy, Peer::Envoy, Peer::Strangler];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Nginx => "nginx",
            Peer::Haproxy => "haproxy",
            Peer::Envoy => "envoy",
            Peer::Strangler => "strangler",
        }
    }

    /// Whether it can. HAProxy has no mirror of its own; only one of them compares.
    pub fn can(self, job: Job) -> bool {
        match job {
            Job::Split => true,
            Job::Mirror => self != Peer::Haproxy,
            Job::Compare | Job::Quiet | Job::Hanging => self == Peer::Strangler,
        }
    }

    /// Writes its configuration and answers the command that starts it, with one thread, on `listen`.
    pub fn command(self, program: &Path, job: Job, place: &Place, listen: [SocketAddr; 2]) -> io::Result<Command> {
        let [front, admin] = listen;
        let stem = format!("{}-{}", self.name(), front.port());
        let write = |ending: &str, text: String| {
            let path = place.folder.join(format!("{stem}.{ending}"));
            fs::write(&path, text).map(|()| path)
        };
        let mut command = Command::new(program);
        match self {
            Peer::Nginx => {
                let config = write("conf", nginx(job, place, front, &stem))?;
                command.arg("-p").arg(&place.folder).arg("-c").arg(config);
            }
            Peer::Haproxy => {
                command.args(["-q", "-db", "-f"]).arg(write("cfg", haproxy(place, front))?);
            }
            Peer::Envoy => {
                command.arg("-c").arg(write("yaml", envoy(job, place, front))?);
                command.args(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]);
            }
            Peer::Strangler => {
                command.arg("run").arg("--routes").arg(write("yaml", strangler(job, place))?);
                command.args(["--listen", &front.to_string(), "--admin", &admin.to_string(), "--threads", "1"]);
                command.args(["--access-log", "off", "--state-dir"]).arg(place.folder.join(format!("{stem}.state")));
            }
        }
        let log = fs::File::create(place.folder.join(format!("{stem}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

fn nginx(job: Job, place: &Place, front: SocketAddr, stem: &str) -> String {
    let (legacy, extracted) = (place.legacy, place.extracted);
    let pool = |name: &str, address: SocketAddr| {
        format!(
            "upstream {name} {{ server {address}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }}"
        )
    };
    let location = match job {
        Job::Mirror => {
            "location / { mirror /copy; proxy_pass http://legacy; }
        location = /copy { internal; proxy_pass http://extracted$request_uri; }"
        }
        Job::Split | Job::Compare | Job::Quiet | Job::Hanging => "location / { proxy_pass http://$side; }",
    };
    format!(
        r#"daemon off; worker_processes 1; pid {stem}.pid; error_log stderr error;
events {{ worker_connections 15000; }}
http {{
    access_log off; keepalive_timeout 600s; keepalive_requests 1000000000;
    client_max_body_size 32m; client_body_buffer_size 64k; proxy_max_temp_file_size 0;
    client_body_temp_path {stem}-body; proxy_temp_path {stem}-proxy; fastcgi_temp_path {stem}-fastcgi; uwsgi_temp_path {stem}-uwsgi; scgi_temp_path {stem}-scgi;
    {}
    {}
    split_clients "$http_x_user_id" $side {{ 50% extracted; * legacy; }}
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    server {{ listen {front} backlog=4096; {location} }}
}}
"#,
        pool("legacy", legacy),
        pool("extracted", extracted)
    )
}

fn haproxy(place: &Place, front: SocketAddr) -> String {
    format!(
        "global
    nbthread 1
    maxconn 9000
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 600s
    timeout server 600s
frontend front
    bind {front} backlog 4096
    default_backend sides
backend sides
    balance hdr(x-user-id)
    server legacy {}
    server extracted {}
",
        place.legacy, place.extracted
    )
}

fn envoy(job: Job, place: &Place, front: SocketAddr) -> String {
    let cluster = |name: &str, address: SocketAddr| {
        format!(
            "
  - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    load_assignment:
      cluster_name: {name}
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]",
            address.ip(),
            address.port()
        )
    };
    let route = match job {
        Job::Mirror => {
            "cluster: legacy, request_mirror_policies: [{cluster: extracted, runtime_fraction: {default_value: {numerator: 100}}}]"
        }
        Job::Split | Job::Compare | Job::Quiet | Job::Hanging => {
            "weighted_clusters: {clusters: [{name: legacy, weight: 50}, {name: extracted, weight: 50}]}"
        }
    };
    format!(
        r#"static_resources:
  listeners:
  - name: front
    address: {{socket_address: {{address: {}, port_value: {}}}}}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: HTTP1
          use_remote_address: true
          generate_request_id: false
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{{route}}}}}]}}
  clusters:{}{}
"#,
        front.ip(),
        front.port(),
        cluster("legacy", place.legacy),
        cluster("extracted", place.extracted)
    )
}

/// A hundred covered paths that no request has, and one that all have: the router works for its living.
fn strangler(job: Job, place: &Place) -> String {
    const SHADOW: &str = "shadow: {sample: 100%, max_rps: 1000000, max_in_flight: 1000}";
    // As it is when it is only switched on: the caps are what keeps a hanging target from costing anything.
    const HOPELESS: &str = "shadow: true";
    let others: String = (0..100)
        .map(|index| {
            let path = format!("/api/v1/area-{}/thing-{index}/{{id}}", index % 10);
            format!("  - {{name: other-{index}, match: {{path: \"{path}\"}}, extracted: extracted, weight: 10%}}\n")
        })
        .collect();
    let (extracted, how) = match job {
        Job::Split => (place.extracted, "weight: 50%".to_owned()),
        Job::Mirror => (place.extracted, format!("weight: 0%, {SHADOW}")),
        Job::Compare => (place.extracted, format!("weight: 0%, {SHADOW}, compare: {{}}")),
        Job::Quiet => (place.hanging, "weight: 0%".to_owned()),
        Job::Hanging => (place.hanging, format!("weight: 0%, {HOPELESS}")),
    };
    format!(
        "version: 1
upstreams:
  legacy: {{endpoints: [\"http://{}\"], max_connections: 1024}}
  extracted: {{endpoints: [\"http://{extracted}\"], max_connections: 1024}}
legacy: legacy
journeys:
  users: {{sticky_on: [\"header:x-user-id\"]}}
routes:
{others}  - {{name: all, journey: users, match: {{path: \"/{{*rest}}\"}}, extracted: extracted, {how}}}
",
        place.legacy
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_work_is_asked_of_a_peer() {
        let able = |job| Peer::ALL.into_iter().filter(|peer| peer.can(job)).count();
        assert_eq!([Job::Split, Job::Mirror, Job::Compare, Job::Hanging].map(able), [4, 3, 1, 1]);
    }
}
