//! Bridges that wrap another one.

use std::sync::Arc;

use crate::bridge::EventBridge;

/// Implements [`EventBridge`](crate::EventBridge) for a type by passing each call on to what it wraps.
///
/// `$inner` is an expression of the wrapped bridge; name the receiver so that it can be used in there.
///
/// ```
/// use std::sync::Arc;
///
/// #[derive(Debug)]
/// struct Wrapper {
///     inner: Arc<dyn purista_core::EventBridge>,
/// }
///
/// purista_core::forward_event_bridge!(impl EventBridge for Wrapper { |bridge| bridge.inner });
/// ```
///
/// Generics stand in brackets. It needs nothing in scope, so it works in crates of every edition from 2021 on:
///
/// ```edition2021
/// #[derive(Debug)]
/// struct Outer<B>(B);
///
/// purista_core::forward_event_bridge!(
///     impl[B: purista_core::EventBridge] EventBridge for Outer<B> { |bridge| bridge.0 }
/// );
/// ```
#[macro_export]
macro_rules! forward_event_bridge {
    (impl$([$($generics:tt)*])? EventBridge for $type:ty { |$bridge:ident| $inner:expr }) => {
        #[$crate::adapter::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl$(<$($generics)*>)? $crate::EventBridge for $type {
            fn name(&self) -> &'static str {
                let $bridge = self;
                $inner.name()
            }

            fn instance_id(&self) -> &$crate::Id {
                let $bridge = self;
                $inner.instance_id()
            }

            fn capabilities(&self) -> $crate::Capabilities {
                let $bridge = self;
                $inner.capabilities()
            }

            async fn start(&self) -> $crate::Result<()> {
                let $bridge = self;
                $inner.start().await
            }

            // These two pass on the future of the inner bridge: as an `async fn`, each layer would box one more.
            fn emit_message<'life0, 'life1, 'async_trait>(
                &'life0 self,
                draft: $crate::EventDraft,
                options: &'life1 $crate::EmitOptions,
            ) -> ::std::pin::Pin<
                ::std::boxed::Box<
                    dyn ::std::future::Future<Output = $crate::Result<::std::sync::Arc<$crate::Message>>>
                        + ::std::marker::Send
                        + 'async_trait,
                >,
            >
            where
                Self: 'async_trait,
                'life0: 'async_trait,
                'life1: 'async_trait,
            {
                let $bridge = self;
                $inner.emit_message(draft, options)
            }

            fn invoke_command<'life0, 'life1, 'async_trait>(
                &'life0 self,
                draft: $crate::CommandDraft,
                options: &'life1 $crate::InvokeOptions,
            ) -> ::std::pin::Pin<
                ::std::boxed::Box<
                    dyn ::std::future::Future<
                            Output = $crate::Result<::std::sync::Arc<$crate::Message>, $crate::InvokeError>,
                        > + ::std::marker::Send
                        + 'async_trait,
                >,
            >
            where
                Self: 'async_trait,
                'life0: 'async_trait,
                'life1: 'async_trait,
            {
                let $bridge = self;
                $inner.invoke_command(draft, options)
            }

            async fn register_command(
                &self,
                command: $crate::Command,
                handler: ::std::sync::Arc<dyn $crate::CommandHandler>,
            ) -> $crate::Result<$crate::Registration> {
                let $bridge = self;
                $inner.register_command(command, handler).await
            }

            async fn register_subscription(
                &self,
                subscription: $crate::Subscription,
                handler: ::std::sync::Arc<dyn $crate::SubscriptionHandler>,
            ) -> $crate::Result<$crate::Registration> {
                let $bridge = self;
                $inner.register_subscription(subscription, handler).await
            }

            fn health(&self) -> $crate::Health {
                let $bridge = self;
                $inner.health()
            }

            fn events(&self) -> $crate::BridgeEvents {
                let $bridge = self;
                $inner.events()
            }

            fn stats(&self) -> $crate::Stats {
                let $bridge = self;
                $inner.stats()
            }

            fn dead_letters(&self) -> $crate::Result<::std::sync::Arc<dyn $crate::DeadLetters>> {
                let $bridge = self;
                $inner.dead_letters()
            }

            async fn shutdown(&self, grace: ::std::time::Duration) -> $crate::ShutdownReport {
                let $bridge = self;
                $inner.shutdown(grace).await
            }
        }
    };
}

forward_event_bridge!(impl[T: EventBridge + ?Sized] EventBridge for Arc<T> { |bridge| (**bridge) });
forward_event_bridge!(impl[T: EventBridge + ?Sized] EventBridge for Box<T> { |bridge| (**bridge) });
