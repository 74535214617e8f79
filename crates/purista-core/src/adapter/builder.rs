//! What connections, bridges and builders of all adapters have in common, as macros: unlike methods of a trait, the methods
//! that they define need no import, and stand in the documentation of each builder.

/// Gives the builder of an adapter the setters of the
/// [`EngineConfig`](crate::adapter::EngineConfig) in one of its fields, and the table `ENGINE_OPTIONS` of them for
/// [`url_options!`](crate::url_options).
#[macro_export]
macro_rules! engine_setters {
    ($engine:ident) => {
        const ENGINE_OPTIONS: &'static [$crate::adapter::UrlOption<Self>] = $crate::url_options!(@list
            instance_id: text;
            operation_timeout;
            max_pending_calls;
            max_pending_emits;
            max_identity_len;
        );

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

/// Gives the connection of an adapter the methods of the [`Connectivity`](crate::adapter::Connectivity) in its field
/// `connectivity`, as [`Live`](crate::adapter::Live) and [`Reconnect`](crate::adapter::Reconnect) need them, and a `Debug` that
/// shows no more than that.
#[macro_export]
macro_rules! connected {
    ($connection:ty) => {
        impl ::std::ops::Deref for $connection {
            type Target = $crate::adapter::Connectivity;

            fn deref(&self) -> &$crate::adapter::Connectivity {
                &self.connectivity
            }
        }

        impl ::std::fmt::Debug for $connection {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct("Connection").field("connectivity", &self.connectivity).finish_non_exhaustive()
            }
        }
    };
}

/// Defines the public type of an adapter, which wraps an [`Engine`](crate::adapter::Engine) in its field `engine`.
///
/// `$builder` is defined with [`builder_start!`](crate::builder_start). The second doc comment is that of the function which
/// starts to configure a bridge by its URL.
#[macro_export]
macro_rules! adapter_bridge {
    (
        $(#[$about:meta])*
        pub struct $bridge:ident($transport:ty);

        $(#[$urls:meta])*
        pub fn builder() -> $builder:ident;
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $bridge {
            pub(crate) engine: ::std::sync::Arc<$crate::adapter::Engine<$transport>>,
        }

        impl $bridge {
            $(#[$urls])*
            pub fn builder(url: impl AsRef<str>) -> $builder {
                $builder::new(url.as_ref())
            }

            #[doc = concat!("Starts to configure a bridge by what the environment says, see [`", stringify!($builder), "::from_env`].")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`", stringify!($builder), "::from_env`].")]
            pub fn from_env() -> $crate::Result<$builder> {
                $builder::from_env()
            }
        }

        $crate::forward_event_bridge!(impl EventBridge for $bridge { |bridge| bridge.engine });
    };
}

/// Gives the builder of an adapter its begin and its end: its defaults, its configuration by the environment, and `build`.
///
/// The builder has two fields, `config`, which is a [`Result`](crate::Result) of the configuration, and `engine`, an
/// [`EngineConfig`](crate::adapter::EngineConfig). The configuration has a function `new` that takes the URL, and the transport
/// one that takes the configuration and the `EngineConfig`, checks both, and is not connected. The builder has a function
/// `from_variables`, which starts with the servers, and `with_all_variables`, which takes all others. That one calls
/// `with_variables`, which hands each variable of the table, or two that belong together, to a setter. The doc comments before
/// the table are the rows of variables that are read in another way.
#[macro_export]
macro_rules! builder_start {
    (
        $config:ty, $transport:ty => $bridge:ident;
        $(#[$row:meta])*
        $($variable:literal $(and $other:literal)? => $setter:ident $(, $unit:literal)?;)+
        $(#[$note:meta])*
    ) => {
        /// Starts with the defaults.
        pub(crate) fn new(url: &str) -> Self {
            Self { config: <$config>::new(url).map_err(Self::named), engine: $crate::adapter::EngineConfig::default() }
        }

        /// Starts with the settings of the environment:
        ///
        /// | variable | as |
        /// |---|---|
        $(#[$row])*
        $(#[doc = concat!(
            "| `", $variable, $("`, `", $other,)? "` | [`", stringify!($setter), "`](Self::", stringify!($setter), ")",
            $(", ", $unit,)? " |"
        )])+
        $(#[$note])*
        ///
        /// # Errors
        ///
        /// [`InvalidConfig`]($crate::ErrorKind::InvalidConfig) if a required variable is missing, one cannot be read, only one
        /// of two that belong together is set, or two exclude each other.
        pub fn from_env() -> $crate::Result<Self> {
            Self::from_variables(&$crate::adapter::Variables::of_process())
        }

        fn with_variables(self, variables: &$crate::adapter::Variables) -> $crate::Result<Self> {
            let builder = self;
            $(let builder = $crate::builder_start!(@apply variables, builder, $variable $(and $other)?, $setter);)+
            Ok(builder)
        }

        fn set(mut self, set: impl FnOnce(&mut $config)) -> Self {
            if let Ok(config) = &mut self.config {
                set(config);
            }
            self
        }

        /// Creates the bridge, which connects at its start.
        ///
        /// # Errors
        ///
        /// [`InvalidConfig`]($crate::ErrorKind::InvalidConfig) if a URL is malformed or a value is invalid,
        /// [`InvalidMessage`]($crate::ErrorKind::InvalidMessage) if the instance id is empty or too long.
        pub fn build(self) -> $crate::Result<$bridge> {
            let transport = <$transport>::new(self.config?, &self.engine).map_err(Self::named)?;
            Ok($bridge { engine: $crate::adapter::Engine::new(transport, self.engine)? })
        }

        fn named(error: $crate::Error) -> $crate::Error {
            error.with_bridge(<$transport as $crate::adapter::Transport>::NAME)
        }
    };
    (@apply $variables:ident, $builder:ident, $variable:literal, $setter:ident) => {
        $variables.apply($builder, $variable, Self::$setter)?
    };
    (@apply $variables:ident, $builder:ident, $variable:literal and $other:literal, $setter:ident) => {
        $variables.apply_pair($builder, $variable, $other, Self::$setter)?
    };
}

/// Gives the builder of an adapter the setters of the [`ConnectionConfig`](crate::adapter::ConnectionConfig) in the field
/// `connection` of its configuration, and of user and password in the field `credentials`, which takes a
/// [`UserInfo`](crate::adapter::UserInfo); and the table `SERVER_OPTIONS` of the first ones for
/// [`url_options!`](crate::url_options).
///
/// The text says which connections the certificates are for; the doc comments are those of the setters whose meaning depends
/// on the broker.
#[macro_export]
macro_rules! server_setters {
    (
        $encrypted:literal;
        $(#[$about_prefix:meta])* prefix;
        $(#[$about_keep_alive:meta])* keep_alive;
        $(#[$about_max_payload:meta])* max_payload;
    ) => {
        const SERVER_OPTIONS: &'static [$crate::adapter::UrlOption<Self>] = $crate::url_options!(@list
            root_certificates: text;
            client_certificate: text pair;
            prefix: text;
            connect_timeout;
            keep_alive;
            max_reconnect_delay;
            max_payload;
        );

        /// Authenticates with user name and password.
        pub fn user_and_password(self, user: impl Into<String>, password: impl Into<String>) -> Self {
            let credentials = $crate::adapter::UserInfo::new(user, password).into();
            self.set(|config| config.credentials = credentials)
        }

        /// Authenticates with what a provider returns, for credentials that are replaced now and then. It is asked before each
        /// connection, also when a connection that was lost is made again, and what it returns is used once. To ask it is
        /// part of the attempt to connect, which the [`connect_timeout`](Self::connect_timeout) limits: a provider that
        /// fails or does not return in time is an attempt that failed, and the next attempt asks it again. Its errors are
        /// logged as causes, so no secrets belong there. It must not block its thread: what blocks goes through
        /// `tokio::task::spawn_blocking`.
        ///
        /// Excludes all other ways to authenticate by user, password and the like, also those of the URL and the
        /// environment: with both, [`build`](Self::build) fails with
        /// [`InvalidConfig`]($crate::ErrorKind::InvalidConfig).
        pub fn credentials_provider<F, C>(self, provider: F) -> Self
        where
            F: Fn() -> C + Send + Sync + 'static,
            C: Future<
                    Output = ::std::result::Result<
                        $crate::Credentials,
                        ::std::boxed::Box<dyn ::std::error::Error + Send + Sync>,
                    >,
                > + Send
                + 'static,
        {
            let provider = $crate::adapter::CredentialsProvider::new(provider);
            self.set(|config| config.connection.credentials_provider = Some(provider))
        }

        #[doc = concat!("Trusts the authorities in a PEM file beside those of the system, for ", $encrypted, ".")]
        ///
        /// The file is read at the start.
        pub fn root_certificates(self, path: impl Into<::std::path::PathBuf>) -> Self {
            self.set(|config| config.connection.tls.root_certificates = Some(path.into()))
        }

        #[doc = concat!("Authenticates with a certificate and its key, for ", $encrypted, ".")]
        ///
        /// The PEM files are read at the start.
        pub fn client_certificate(
            self,
            certificate: impl Into<::std::path::PathBuf>,
            key: impl Into<::std::path::PathBuf>,
        ) -> Self {
            self.set(|config| config.connection.tls.client_certificate = Some((certificate.into(), key.into())))
        }

        $(#[$about_prefix])*
        pub fn prefix(self, prefix: impl Into<String>) -> Self {
            self.set(|config| config.connection.prefix = prefix.into())
        }

        /// Limits how long one attempt to connect to a server takes; 5 s by default.
        pub fn connect_timeout(self, timeout: ::std::time::Duration) -> Self {
            self.set(|config| config.connection.connect_timeout = timeout)
        }

        $(#[$about_keep_alive])*
        pub fn keep_alive(self, time: ::std::time::Duration) -> Self {
            self.set(|config| config.connection.keep_alive = time)
        }

        /// Limits the pause between two attempts to connect again, which starts at 100 ms; 2 s by default.
        pub fn max_reconnect_delay(self, delay: ::std::time::Duration) -> Self {
            self.set(|config| config.connection.max_reconnect_delay = delay)
        }

        $(#[$about_max_payload])*
        pub fn max_payload(self, bytes: usize) -> Self {
            self.set(|config| config.connection.max_payload = bytes)
        }
    };
}
