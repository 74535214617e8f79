//! Where the bridge connects, by its URL.

use std::time::Duration;

use purista_conformance::urls::{Dialect, Shown, check};
use purista_core::{EventBridge as _, Result};
use purista_dapr::DaprBridge;
use purista_integration_tests::Witness;

async fn shown(witness: &Witness, url: &str) -> Result<Shown> {
    let bridge = DaprBridge::builder(url).connect_timeout(Duration::from_millis(1)).build()?;
    bridge.start().await.unwrap_err();
    let seen = witness.take();
    let request = String::from_utf8(seen[0].bytes.clone()).unwrap();
    assert!(request.starts_with("GET /v1.0/metadata HTTP/1.1\r\n"), "{request}");
    assert!(!request.to_lowercase().contains("authorization"), "{request}");
    Ok(Shown { address: seen[0].address, user: None, password: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_url_is_met_as_it_is_written_or_refused() {
    let witness = Witness::http().await.unwrap();
    for scheme in ["dapr", "http"] {
        let dialect = Dialect {
            scheme,
            port: witness.port(),
            nobody: (None, None),
            has_user_info: false,
            is_list: false,
        };
        check(dialect, async |url| shown(&witness, &url).await).await.unwrap();
    }
}
