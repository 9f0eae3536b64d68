//! A real Envoy with a listener and clusters that share one secret.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::child::Tended;

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// It ends with this.
#[derive(Debug)]
pub(crate) struct Envoy {
    process: Tended,
    /// Where it presents the secret's certificate.
    pub(crate) listener: SocketAddr,
}

/// What one Envoy is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) program: &'a Path,
    /// Of the server that it asks for its secret.
    pub(crate) socket: &'a Path,
    /// TLS contexts with that secret: one of the listener, the others of clusters.
    pub(crate) contexts: u32,
    /// Whether all its requests say who it is, as they do unless told otherwise, or the first alone.
    pub(crate) node_in_each_request: bool,
}

impl Envoy {
    /// Starts one with its files in `directory`, and does not wait for it.
    pub(crate) fn start(settings: Settings<'_>, directory: &Path, name: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = directory.join(format!("{name}.json"));
        fs::write(&config, bootstrap(settings, listener, name).to_string())?;
        let log = File::create(directory.join(format!("{name}.log")))?;
        let mut command = Command::new(settings.program);
        command.arg("--config-path").arg(config);
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        let process = Tended::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        Ok(Self { process, listener })
    }

    /// # Errors
    /// When it has ended.
    pub(crate) fn look(&mut self) -> Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("an Envoy has ended: {status}"),
            None => Ok(()),
        }
    }
}

fn bootstrap(settings: Settings<'_>, listener: SocketAddr, name: &str) -> Value {
    let mut clusters = vec![agent(settings.socket)];
    clusters.extend((1..settings.contexts).map(|number| cluster(settings, number)));
    json!({
        "node": { "id": name, "cluster": "bench" },
        "static_resources": {
            "listeners": [{
                "name": "presents",
                "address": address(listener),
                "filter_chains": [{
                    "transport_socket": tls(settings, "DownstreamTlsContext"),
                    "filters": [{
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "presents",
                            "cluster": "agent",
                        },
                    }],
                }],
            }],
            "clusters": clusters,
        },
    })
}

fn agent(socket: &Path) -> Value {
    json!({
        "name": "agent",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
        "load_assignment": endpoint("agent", &json!({ "pipe": { "path": socket } })),
    })
}

/// Nobody calls it; its context takes the secret all the same.
fn cluster(settings: Settings<'_>, number: u32) -> Value {
    let name = format!("cluster-{number}");
    json!({
        "name": name,
        "type": "STATIC",
        "transport_socket": tls(settings, "UpstreamTlsContext"),
        "load_assignment": endpoint(&name, &address((Ipv4Addr::LOCALHOST, 9).into())),
    })
}

fn tls(settings: Settings<'_>, context: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TLS}.{context}"),
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [{
                    "name": "default",
                    "sds_config": {
                        "resource_api_version": "V3",
                        "api_config_source": {
                            "api_type": "GRPC",
                            "transport_api_version": "V3",
                            "set_node_on_first_message_only": !settings.node_in_each_request,
                            "grpc_services": [{ "envoy_grpc": { "cluster_name": "agent" } }],
                        },
                    },
                }],
            },
        },
    })
}

fn endpoint(cluster: &str, address: &Value) -> Value {
    json!({
        "cluster_name": cluster,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
    })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_context_takes_the_secret_from_one_place() {
        let settings = Settings {
            program: Path::new("/envoy"),
            socket: Path::new("/s"),
            contexts: 3,
            node_in_each_request: true,
        };
        let text = bootstrap(settings, (Ipv4Addr::LOCALHOST, 1).into(), "e").to_string();
        assert_eq!(text.matches("tls_certificate_sds_secret_configs").count(), 3);
        assert_eq!(text.matches("\"set_node_on_first_message_only\":false").count(), 3);
        assert_eq!(text.matches("\"path\":\"/s\"").count(), 1);
    }
}
