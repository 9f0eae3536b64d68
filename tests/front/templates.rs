//! An Envoy whose process earns its identity by a template asks for it by `default` and by the SPIFFE ID that is made,
//! and follows it as any other.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use prost::Message as _;
use tokio::{runtime::Builder, time::sleep};
use vouch::registration::{EntryId, TemplateEntry};
use vouch_tests::{
    link::Link,
    node::{Node, spiffe_id},
    sds::{chain, request, secrets},
    wire::{Client, STREAM_SECRETS, Shape, framed},
};

/// In virtual time what can move takes none.
const MOMENT: Duration = Duration::from_millis(50);
const ROOM: usize = 64 << 10;

fn template(path: &str) -> TemplateEntry {
    let template = format!("spiffe://example.org/{path}").parse().expect("a template");
    TemplateEntry::new(EntryId::new("t"), template, vec![])
}

/// One stream of an Envoy.
struct Envoy {
    link: Link,
    id: u32,
}

impl Envoy {
    async fn ask(node: &mut Node, names: &[&str]) -> Self {
        let link = Link::new(node.connect(ROOM), Client::new(Shape::default(), 1 << 20), vec![]);
        let id = link.with(|client| client.open(STREAM_SECRETS));
        let envoy = Self { link, id };
        envoy.say(&request(names));
        sleep(MOMENT).await;
        envoy
    }

    fn say(&self, request: &DiscoveryRequest) {
        let bytes = framed(&request.encode_to_vec());
        self.link.with(|client| client.send(self.id, &bytes));
    }

    fn answers(&self) -> Vec<DiscoveryResponse> {
        let decode = |bytes: &Vec<u8>| DiscoveryResponse::decode(&bytes[..]).expect("a response");
        self.link.with(|client| client.streams[&self.id].messages.iter().map(decode).collect())
    }

    fn is_over(&self) -> bool {
        self.link.with(|client| client.streams[&self.id].end.is_some())
    }

    /// Names and chains of the last answer.
    fn has(&self) -> Vec<(String, Vec<u8>)> {
        let last = self.answers().pop().expect("an answer");
        secrets(&last)
            .into_iter()
            .map(|secret| (secret.name.clone(), chain(&secret).expect("a chain")))
            .collect()
    }
}

#[test]
fn an_identity_by_template_is_served_by_its_name_and_as_the_default() {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut node = Node::start(&[]);
        node.set_templates([template("user/{unix:uid}")]);
        let made = spiffe_id(&format!("user/{}", nix::unistd::geteuid()));
        let envoy = Envoy::ask(&mut node, &["default", &made]).await;
        let first = envoy.has();
        assert_eq!(first.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["default", &made]);
        assert_eq!(first[0].1, first[1].1);
        let other = Envoy::ask(&mut node, &[&spiffe_id("user/77")]).await;
        assert!(other.is_over() && other.answers().is_empty(), "another's name");

        assert_eq!(node.rotate().await, 1);
        sleep(MOMENT).await;
        let second = envoy.has();
        assert_ne!(second[0].1, first[0].1);

        node.set_templates([template("uid/{unix:uid}")]);
        sleep(MOMENT).await;
        assert!(envoy.is_over(), "the name that it asked for is nobody's any more");
        let renamed = Envoy::ask(&mut node, &["default"]).await;
        assert_eq!(renamed.has().len(), 1);
        for envoy in [envoy, other, renamed] {
            envoy.link.hang_up();
        }
        node.connections_end().await;
        sleep(MOMENT).await;
        node.assert_nothing_is_left();
        assert_eq!(node.svids.stats().held, 0, "what a template made goes with its last user");
        node.stop().await;
    });
}
