//! Tenant and principal travel with a call and with all that it causes; subscriptions filter by them.
//!
//! ```text
//! cargo run --example tenants
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use purista::prelude::*;

/// It says nothing of tenants: what it emits belongs to the tenant of its caller.
async fn order(context: Context, item: String) -> Result<String, HandlerError> {
    context.emit("ordered", &item).await?;
    Ok(item)
}

fn watch(who: &'static str, filter: Filter) -> Service {
    Service::new(who, "1").subscription("watch", filter, move |context: Context, item: String| async move {
        let message = context.message();
        let [tenant, principal] =
            [&message.tenant_id, &message.principal_id].map(|id| id.as_deref().unwrap_or("nobody"));
        println!("{who}: {item} for {tenant}, by {principal}");
        Ok(())
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bridge = purista::connect("default")?;
    let ordered = || Filter::event("ordered");
    bridge
        .serve([
            Service::new("Shop", "1").command("order", order),
            watch("All", ordered()),
            watch("Acme", ordered().with_tenant_id("acme")),
            watch("Ada", ordered().with_tenant_id("acme").with_principal_id("ada")),
        ])
        .await?;
    for (tenant, principal, item) in
        [("acme", "ada", "tea"), ("acme", "bob", "milk"), ("other", "ada", "rice")]
    {
        let call = bridge.call(("Shop", "1", "order")).tenant(tenant).principal(principal);
        call.invoke::<String>(item).await?;
    }
    // It finishes what is in hand.
    bridge.shutdown(purista::DRAIN_TIME).await;
    Ok(())
}
