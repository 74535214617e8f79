use purista_conformance::{Login, SECRET, Security};
use purista_core::Result;
use purista_dapr::DaprBridgeBuilder;
use purista_integration_tests::dapr::SidecarConfig;

use super::wire::unavailable;

/// Sidecars that ask for a token, and bridges that know it or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secured(Login);

impl Secured {
    pub(crate) fn new(security: Security) -> Result<Self> {
        match security {
            Security::Login(login) => Ok(Self(login)),
            other => Err(unavailable(format!("unknown: {other:?}"))),
        }
    }

    pub(crate) fn configure_sidecar(self, app_id: &str, config: SidecarConfig) -> SidecarConfig {
        let config = config.with_api_token(api_token()).with_app_token(app_token());
        match self.0 {
            // It may publish to none of the topics that there are.
            Login::MayNotPublish => config.with_component_metadata("publishingScopes", format!("{app_id}=")),
            _ => config,
        }
    }

    pub(crate) fn configure_bridge(self, builder: DaprBridgeBuilder) -> DaprBridgeBuilder {
        let builder = builder.app_token(app_token());
        match self.0 {
            Login::WrongPassword => builder.api_token(format!("{}, wrong", api_token())),
            _ => builder.api_token(api_token()),
        }
    }
}

fn api_token() -> String {
    format!("{SECRET} of the sidecar")
}

fn app_token() -> String {
    format!("{SECRET} of the app")
}
