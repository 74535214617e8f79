//! An operator, an account and a user, as a server knows them by their JWTs.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use purista_integration_tests::nats::NatsConfig;
use serde_json::{Value, json};

/// Who may connect, and how the server knows.
pub(crate) struct Identities {
    operator: String,
    account: (String, String),
    /// The text of a credentials file.
    pub(crate) credentials: String,
}

impl Identities {
    pub(crate) fn create() -> Self {
        let (operator, account, user) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
        let any = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1,
            "leaf": -1, "wildcards": true });
        let of_user = json!({ "type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
        let jwt = token(&account, &user, of_user);
        let seed = user.seed().unwrap();
        Self {
            operator: token(&operator, &operator, json!({ "type": "operator" })),
            account: (
                account.public_key(),
                token(&operator, &account, json!({ "type": "account", "limits": any })),
            ),
            credentials: format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            ),
        }
    }

    /// Configures a server that knows them and nobody else.
    pub(crate) fn server(&self) -> NatsConfig {
        let (account, jwt) = &self.account;
        let resolver = format!("resolver: MEMORY\nresolver_preload: {{ {account}: {jwt} }}");
        NatsConfig::core().with_lines(format!("operator: {}\n{resolver}", self.operator))
    }
}

fn token(issuer: &KeyPair, subject: &KeyPair, mut claims: Value) -> String {
    claims["version"] = json!(2);
    let claims = json!({ "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(),
        "sub": subject.public_key(), "name": "test", "nats": claims });
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
