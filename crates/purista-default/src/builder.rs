use purista_core::{
    Error, Result,
    adapter::{Engine, EngineConfig, Transport as _, UrlOption, UrlOptions, Variables},
};

use crate::{DefaultEventBridge, Hub, transport::InProcess};

/// Configures a [`DefaultEventBridge`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct DefaultEventBridgeBuilder {
    hub: Hub,
    config: EngineConfig,
}

impl DefaultEventBridgeBuilder {
    /// Attaches the bridge to a hub that it shares with others; by default it has one of its own.
    pub fn hub(mut self, hub: &Hub) -> Self {
        self.hub = hub.clone();
        self
    }

    purista_core::engine_setters!(config);

    /// Starts with the URL of the bridge within one process, which is `default`, alone or with options: those of this builder
    /// that are a text, a number or a time, such as `default?instance_id=a&operation_timeout=2s`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](purista_core::ErrorKind::InvalidConfig) if it is another URL, if an option is not known, with the list
    /// of those that are, if its value is none, or if it is there twice.
    pub fn from_url(url: impl AsRef<str>) -> Result<Self> {
        Self::default().with_url(url.as_ref()).map_err(|error| error.with_bridge(InProcess::NAME))
    }

    /// Starts with a URL as [`from_url`](Self::from_url) does, and with the setting of the environment, `PURISTA_INSTANCE_ID`.
    /// What both say is as the URL says.
    ///
    /// # Errors
    ///
    /// Those of [`from_url`](Self::from_url), or if the variable is not Unicode.
    pub fn from_url_and_variables(url: impl AsRef<str>, variables: &Variables) -> Result<Self> {
        let builder = variables.apply(Self::default(), "PURISTA_INSTANCE_ID", Self::instance_id)?;
        builder.with_url(url.as_ref()).map_err(|error| error.with_bridge(InProcess::NAME))
    }

    fn with_url(self, url: &str) -> Result<Self> {
        let tables = &[Self::ENGINE_OPTIONS];
        let (rest, options) = UrlOptions::split(url, &[], &[], &UrlOption::names(tables))?;
        match rest.to_ascii_lowercase().as_str() {
            "default" | "default://" => options.apply(self, tables),
            _ => Err(Error::invalid_config(
                "the URL of the bridge within one process is `default`, and has no host",
            )),
        }
    }

    /// Creates the bridge, which is not started yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](purista_core::ErrorKind::InvalidConfig) if a limit of the bridge or its hub is zero,
    /// [`InvalidMessage`](purista_core::ErrorKind::InvalidMessage) if the instance id is empty or too long.
    pub fn build(self) -> Result<DefaultEventBridge> {
        self.hub.config().validate()?;
        Ok(DefaultEventBridge { engine: Engine::new(InProcess::new(self.hub), self.config)? })
    }
}
