use std::sync::Arc;

use purista_core::{EventBridge, Result, adapter::Variables};

use crate::systems::System;

/// Creates the bridge that a URL names, with the options in its query. It connects at its start: by
/// [`run`](crate::run()), [`serve`](crate::EventBridgeExt::serve) or [`start`](EventBridge::start), so that services can be
/// registered before.
///
/// [URLs](crate#urls) says which there are.
///
/// ```
/// use purista::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista::connect("default?instance_id=a&operation_timeout=2s")?;
/// let double = |_: Context, number: u32| async move { Ok(2 * number) };
/// bridge.serve([Service::new("Math", "1").command("double", double)]).await?;
/// assert_eq!(bridge.invoke::<u32>(("Math", "1", "double"), &21).await?, 42);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if no adapter has such URLs, if the feature that brings it is not on, and
/// tells which; if a part of the URL is malformed or has no use; if an option is not known, and lists those that are; if its
/// value cannot be, if it is there twice, or if the URL says the same in two ways. No part of the URL is repeated, as it may be
/// a secret. [`InvalidMessage`](crate::ErrorKind::InvalidMessage) if the instance id is too long.
pub fn connect(url: impl AsRef<str>) -> Result<Arc<dyn EventBridge>> {
    open(url.as_ref(), None)
}

/// Creates the bridge that the variable `PURISTA_URL` names, with the variables of its adapter, such as `PURISTA_NATS_CA`,
/// which `from_env` of each builder lists. An option of the URL wins over a variable; a variable wins over the URL's user,
/// password and path, as it does beside the servers that it is made for.
///
/// The variable that names the servers of the adapter alone, such as `PURISTA_NATS_URL`, must not be there as well. With
/// Dapr, the URL counts instead of `DAPR_HTTP_PORT`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// match purista::from_env() {
///     Ok(bridge) => println!("the bridge is {}", bridge.name()),
///     Err(error) => println!("{error}"), // such as: PURISTA_URL is not set
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`connect`], and [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if `PURISTA_URL` is not set or one of the variables
/// cannot be read.
pub fn from_env() -> Result<Arc<dyn EventBridge>> {
    from_variables(&Variables::of_process())
}

fn from_variables(variables: &Variables) -> Result<Arc<dyn EventBridge>> {
    open(variables.required("PURISTA_URL")?, Some(variables))
}

fn open(url: &str, variables: Option<&Variables>) -> Result<Arc<dyn EventBridge>> {
    let url = url.trim_matches(|character: char| character.is_ascii_whitespace());
    System::of(url)?.open(url, variables)
}

#[cfg(test)]
mod tests {
    use purista_core::ErrorKind;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Arc<dyn EventBridge>> {
        from_variables(&variables.iter().copied().collect())
    }

    #[test]
    fn the_environment_names_the_bridge() {
        let bridge = from(&[("PURISTA_URL", " default\n"), ("PURISTA_INSTANCE_ID", "a")]).unwrap();
        assert_eq!((bridge.name(), bridge.instance_id().to_string().as_str()), ("default", "a"));
        let bridge = from(&[("PURISTA_URL", "default?instance_id=b"), ("PURISTA_INSTANCE_ID", "a")]).unwrap();
        assert_eq!(bridge.instance_id().to_string().as_str(), "b");
        let error = from(&[("PURISTA_INSTANCE_ID", "a")]).unwrap_err();
        assert!(
            error.kind() == ErrorKind::InvalidConfig && error.to_string().contains("PURISTA_URL is not set")
        );
    }

    #[cfg(feature = "nats")]
    #[test]
    fn the_variables_of_the_adapter_count_as_well() {
        let url = ("PURISTA_URL", "nats://host?instance_id=b");
        let instance = |variables: &[_]| from(variables).map(|bridge| bridge.instance_id().to_string());
        assert_eq!(
            instance(&[url, ("PURISTA_INSTANCE_ID", "a"), ("PURISTA_NATS_PREFIX", "x")]).unwrap(),
            "b"
        );
        for wrong in [
            ("PURISTA_NATS_URL", "nats://other"),
            ("PURISTA_NATS_PREFIX", "a\u{1}"),
            ("PURISTA_NATS_CA", "ca.pem"),
        ] {
            assert_eq!(instance(&[url, wrong]).unwrap_err().kind(), ErrorKind::InvalidConfig, "{wrong:?}");
        }
        // Those of other adapters are for other processes.
        instance(&[url, ("PURISTA_AMQP_URL", "amqp://host")]).unwrap();
    }
}
