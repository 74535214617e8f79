//! What the builders of all adapters have in common, as macros: unlike methods of a trait, the methods that they define need
//! no import, and stand in the documentation of each builder.

/// Gives the builder of an adapter the setters of the
/// [`EngineConfig`](crate::adapter::EngineConfig) in one of its fields.
#[macro_export]
macro_rules! engine_setters {
    ($engine:ident) => {
        /// Sets the id of this instance, unique among all that run; random by default.
        pub fn instance_id(mut self, instance_id: impl Into<$crate::Id>) -> Self {
            self.$engine.instance_id = Some(instance_id.into());
            self
        }

        /// Limits how long connecting, and each operation of a registration at the broker, may take; 10 s by default.
        pub const fn operation_timeout(mut self, timeout: ::std::time::Duration) -> Self {
            self.$engine.operation_timeout = timeout;
            self
        }

        /// Limits how many calls can be pending; 100,000 by default. More fail with
        /// [`Backpressure`]($crate::ErrorKind::Backpressure).
        pub const fn max_pending_calls(mut self, calls: usize) -> Self {
            self.$engine.max_pending_calls = calls;
            self
        }

        /// Limits how many emits can wait for the broker; 100,000 by default. More fail with
        /// [`Backpressure`]($crate::ErrorKind::Backpressure).
        pub const fn max_pending_emits(mut self, emits: usize) -> Self {
            self.$engine.max_pending_emits = emits;
            self
        }

        /// Limits names and ids that are sent or registered, in bytes; 255 by default.
        pub const fn max_identity_len(mut self, bytes: usize) -> Self {
            self.$engine.max_identity_len = bytes;
            self
        }
    };
}

/// Gives the builder of an adapter what it starts with: its defaults, and its configuration by the environment.
///
/// The builder has two fields, `config`, which is a [`Result`](crate::Result) of the configuration, and `engine`, an
/// [`EngineConfig`](crate::adapter::EngineConfig). The configuration has a function `new` that takes the URL, and the builder
/// one that is called `from_variables`. The doc comments are the rows of the table of variables.
#[macro_export]
macro_rules! builder_start {
    ($(#[$variable:meta])* $config:ty, $bridge:expr) => {
        /// Starts with the defaults.
        pub(crate) fn new(url: &str) -> Self {
            Self {
                config: <$config>::new(url).map_err(|error| error.bridge($bridge)),
                engine: $crate::adapter::EngineConfig::default(),
            }
        }

        /// Starts with the settings of the environment:
        ///
        /// | variable | as |
        /// |---|---|
        $(#[$variable])*
        ///
        /// # Errors
        ///
        /// [`InvalidConfig`]($crate::ErrorKind::InvalidConfig) if a required variable is missing, one cannot be read, only one
        /// of two that belong together is set, or two exclude each other.
        pub fn from_env() -> $crate::Result<Self> {
            Self::from_variables(&$crate::adapter::Variables::of_process())
        }

        fn set(mut self, set: impl FnOnce(&mut $config)) -> Self {
            if let Ok(config) = &mut self.config {
                set(config);
            }
            self
        }
    };
}

/// Gives the builder of an adapter that connects to a [`ServerList`](crate::adapter::ServerList) the setters of the connection.
///
/// Its configuration has the fields `tls`, which are [`TlsFiles`](crate::adapter::TlsFiles), `connect_timeout` and
/// `max_reconnect_delay`. The text says which connections the certificates are for.
#[macro_export]
macro_rules! server_setters {
    ($encrypted:literal) => {
        #[doc = concat!("Trusts the authorities in a PEM file beside those of the system, for ", $encrypted, ".")]
        ///
        /// The file is read at the start.
        pub fn root_certificates(self, path: impl Into<::std::path::PathBuf>) -> Self {
            self.set(|config| config.tls.root_certificates = Some(path.into()))
        }

        #[doc = concat!("Authenticates with a certificate and its key, for ", $encrypted, ".")]
        ///
        /// The PEM files are read at the start.
        pub fn client_certificate(
            self,
            certificate: impl Into<::std::path::PathBuf>,
            key: impl Into<::std::path::PathBuf>,
        ) -> Self {
            self.set(|config| config.tls.client_certificate = Some((certificate.into(), key.into())))
        }

        /// Limits how long one attempt to connect to a server takes; 5 s by default.
        pub fn connect_timeout(self, timeout: ::std::time::Duration) -> Self {
            self.set(|config| config.connect_timeout = timeout)
        }

        /// Limits the pause between two attempts to connect again, which starts at 100 ms; 2 s by default.
        pub fn max_reconnect_delay(self, delay: ::std::time::Duration) -> Self {
            self.set(|config| config.max_reconnect_delay = delay)
        }
    };
}
