//! What JetStream refuses, by the server's list of error codes (`server/errors.json`).

use async_nats::jetstream;
use purista_core::{Capability, Error, ErrorKind};

use crate::error::error;

/// What the API answers where JetStream is off, for the server or for the account.
const NOT_ENABLED: [u64; 2] = [10_039, 10_076];

/// Returns whether an answer says that JetStream is off, for the server or for the account.
pub(crate) fn is_not_enabled(refusal: &jetstream::Error) -> bool {
    NOT_ENABLED.contains(&refusal.error_code().0)
}

/// What does not exist: the answer to a question.
const NOT_FOUND: [u64; 3] = [10_014, 10_059, 10_149];

/// Returns whether an answer says "not now": there is no leader, or no server to ask, at the moment.
pub(crate) fn is_not_now(refusal: &jetstream::Error) -> bool {
    kind(refusal) == ErrorKind::Unavailable && !NOT_FOUND.contains(&refusal.error_code().0)
}

/// Returns whether an answer says that there is no room at the moment.
pub(crate) fn is_no_room(refusal: &jetstream::Error) -> bool {
    kind(refusal) == ErrorKind::Backpressure
}

/// Returns whether an answer says that a message is larger than the stream takes.
pub(crate) fn is_too_large(refusal: &jetstream::Error) -> bool {
    matches!(kind(refusal), ErrorKind::PayloadTooLarge { .. })
}

/// Translates what JetStream refused.
pub(crate) fn refused(refusal: &jetstream::Error, operation: &'static str) -> Error {
    let text = match setting(refusal.error_code().0) {
        Some(setting) => format!("{refusal}; see {setting}"),
        None => refusal.to_string(),
    };
    error(kind(refusal), operation).with_context(text)
}

fn kind(refusal: &jetstream::Error) -> ErrorKind {
    kind_of(refusal.error_code().0, refusal.code())
}

fn kind_of(code: u64, status: usize) -> ErrorKind {
    match code {
        // No leader yet, no peer, on the move, or not enabled any more: an operator or an election changes that.
        // What was deleted is created again, by whoever did so or by a bridge.
        10_004
        | 10_005
        | 10_007..=10_009
        | 10_014
        | 10_035
        | 10_039
        | 10_041
        | 10_059
        | 10_075
        | 10_076
        | 10_118
        | 10_119
        | 10_124
        | 10_129
        | 10_149
        | 10_158
        | 10_163
        | 10_194
        | 10_195
        | 10_202
        | 10_226 => ErrorKind::Unavailable,
        // A stream or store that is full, or too much at once.
        10_023 | 10_028 | 10_047 | 10_077 | 10_167 | 10_210 | 10_211 => ErrorKind::Backpressure,
        10_054 | 10_097 => ErrorKind::payload_too_large(0, 0),
        // Quotas of the account.
        10_002 | 10_026 | 10_027 | 10_120 => ErrorKind::Forbidden,
        10_010 | 10_036 | 10_185 => ErrorKind::Unsupported(Capability::DurableSubscriptions),
        // What is configured does not fit the server.
        10_011 | 10_052 | 10_053 | 10_074 | 10_102 | 10_103 | 10_107 | 10_113 | 10_121 | 10_122 | 10_126
        | 10_127 | 10_128 | 10_133 | 10_135 | 10_153 => ErrorKind::InvalidConfig,
        // Something else is there.
        10_013
        | 10_055
        | 10_056
        | 10_058
        | 10_060
        | 10_061
        | 10_065
        | 10_093
        | 10_096
        | 10_098..=10_101
        | 10_105
        | 10_106
        | 10_109
        | 10_125
        | 10_130
        | 10_131
        | 10_134
        | 10_148
        | 10_160
        | 10_225 => ErrorKind::TopologyMismatch,
        // Codes that a later server adds.
        _ if status == 503 => ErrorKind::Unavailable,
        _ if status == 429 => ErrorKind::Backpressure,
        _ => ErrorKind::Unexpected,
    }
}

/// Returns the setting that an operator has to change.
const fn setting(code: u64) -> Option<&'static str> {
    Some(match code {
        10_002 => "the account's limits of JetStream",
        10_023 | 10_047 => {
            "max_file_store of the server, max_file of the account, or JetStreamConfig::max_bytes"
        }
        10_026 => "max_consumers of the account",
        10_027 => "max_streams of the account",
        10_028 => "max_memory_store of the server",
        10_039 => "jetstream of the account",
        10_054 => "max_msg_size of the stream",
        10_074 => "JetStreamConfig::replicas, which needs a cluster",
        10_076 => "jetstream of the server",
        10_113 | 10_122 => "max_stream_bytes of the account, or JetStreamConfig::max_bytes",
        10_120 => "the JetStream tiers of the account",
        10_121 => "max_ack_pending of the server",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LARGE: ErrorKind = ErrorKind::payload_too_large(0, 0);
    const UNSUPPORTED: ErrorKind = ErrorKind::Unsupported(Capability::DurableSubscriptions);

    type Codes = &'static [(u64, usize)];

    /// The server's whole list (2.15): code, status, and what it becomes.
    #[rustfmt::skip]
    const TABLE: &[(ErrorKind, bool, Codes)] = &[
        (ErrorKind::Unavailable, true, &[
            (10_004, 503), (10_005, 400), (10_007, 500), (10_008, 503), (10_009, 500), (10_014, 404), (10_035, 503),
            (10_039, 503), (10_041, 500), (10_059, 404), (10_063, 503), (10_075, 503), (10_076, 503), (10_118, 500),
            (10_119, 500), (10_124, 400), (10_129, 400), (10_149, 400), (10_158, 409), (10_163, 503), (10_194, 500),
            (10_195, 500), (10_202, 400), (10_226, 400),
        ]),
        (ErrorKind::Backpressure, true, &[
            (10_023, 503), (10_028, 500), (10_047, 500), (10_077, 503), (10_167, 429), (10_210, 429), (10_211, 429),
        ]),
        (TOO_LARGE, false, &[(10_054, 400), (10_097, 400)]),
        (ErrorKind::Forbidden, false, &[(10_002, 400), (10_026, 400), (10_027, 400), (10_120, 400)]),
        (UNSUPPORTED, false, &[(10_010, 503), (10_036, 503), (10_185, 412)]),
        (ErrorKind::InvalidConfig, false, &[
            (10_011, 400), (10_052, 500), (10_053, 500), (10_074, 500), (10_102, 400), (10_103, 400), (10_107, 400),
            (10_113, 400), (10_121, 400), (10_122, 400), (10_126, 400), (10_127, 400), (10_128, 400), (10_133, 400),
            (10_135, 400), (10_153, 400),
        ]),
        (ErrorKind::TopologyMismatch, false, &[
            (10_013, 400), (10_055, 400), (10_056, 400), (10_058, 400), (10_060, 400), (10_061, 400), (10_065, 400),
            (10_093, 400), (10_096, 500), (10_098, 400), (10_099, 400), (10_100, 400), (10_101, 400), (10_105, 400),
            (10_106, 400), (10_109, 400), (10_125, 400), (10_130, 400), (10_131, 400), (10_134, 400), (10_148, 400),
            (10_160, 400), (10_225, 400),
        ]),
    ];

    /// The rest of the list: the bridge never asks for what these refuse.
    #[rustfmt::skip]
    const UNEXPECTED: &[(u64, usize)] = &[
        (10_003, 400), (10_006, 500), (10_012, 500), (10_015, 400), (10_016, 400), (10_017, 400), (10_018, 400),
        (10_019, 400), (10_020, 400), (10_021, 400), (10_022, 400), (10_024, 400), (10_025, 400), (10_029, 500),
        (10_030, 400), (10_031, 400), (10_032, 400), (10_033, 400), (10_034, 400), (10_037, 404), (10_038, 400),
        (10_040, 400), (10_042, 500), (10_043, 400), (10_044, 400), (10_045, 500), (10_046, 400), (10_048, 500),
        (10_049, 500), (10_050, 500), (10_051, 500), (10_057, 500), (10_062, 500), (10_064, 500), (10_066, 500),
        (10_067, 500), (10_068, 404), (10_069, 500), (10_070, 400), (10_071, 400), (10_072, 500), (10_073, 400),
        (10_078, 400), (10_079, 400), (10_080, 400), (10_081, 400), (10_082, 400), (10_083, 400), (10_084, 400),
        (10_085, 400), (10_086, 400), (10_087, 400), (10_088, 400), (10_089, 400), (10_090, 400), (10_091, 400),
        (10_092, 400), (10_094, 400), (10_095, 400), (10_104, 500), (10_108, 400), (10_110, 500), (10_111, 500),
        (10_112, 400), (10_114, 400), (10_115, 400), (10_116, 400), (10_117, 500), (10_123, 400), (10_132, 400),
        (10_136, 400), (10_137, 400), (10_138, 400), (10_139, 400), (10_140, 400), (10_141, 400), (10_142, 400),
        (10_143, 400), (10_144, 400), (10_145, 400), (10_146, 400), (10_147, 400), (10_150, 400), (10_151, 400),
        (10_152, 400), (10_154, 400), (10_155, 400), (10_156, 400), (10_157, 400), (10_159, 400), (10_161, 400),
        (10_162, 400), (10_164, 400), (10_165, 400), (10_166, 400), (10_168, 400), (10_169, 400), (10_170, 400),
        (10_171, 400), (10_172, 400), (10_173, 400), (10_174, 400), (10_175, 400), (10_176, 400), (10_177, 400),
        (10_178, 400), (10_179, 400), (10_180, 412), (10_181, 400), (10_182, 400), (10_183, 400), (10_184, 400),
        (10_186, 400), (10_187, 400), (10_188, 400), (10_189, 400), (10_190, 400), (10_191, 400), (10_192, 400),
        (10_193, 400), (10_196, 400), (10_197, 400), (10_198, 400), (10_199, 400), (10_200, 400), (10_201, 400),
        (10_203, 400), (10_204, 400), (10_205, 400), (10_206, 400), (10_207, 400), (10_208, 400), (10_209, 400),
        (10_212, 400), (10_213, 400), (10_214, 400), (10_215, 400), (10_216, 400), (10_217, 400), (10_218, 400),
        (10_219, 400), (10_220, 400), (10_221, 400), (10_222, 400), (10_223, 400), (10_224, 400), (10_227, 400),
    ];

    #[test]
    fn each_code_of_the_server_has_its_kind() {
        let rest = (ErrorKind::Unexpected, false, UNEXPECTED);
        let mut seen = Vec::new();
        for (wanted, is_temporary, codes) in TABLE.iter().copied().chain([rest]) {
            for (code, status) in codes.iter().copied() {
                let json = serde_json::json!({ "code": status, "err_code": code, "description": "text" });
                let refusal: jetstream::Error = serde_json::from_value(json).unwrap();
                let error = refused(&refusal, "emit");
                assert_eq!(error.kind(), wanted, "{code}");
                assert_eq!(error.kind().is_temporary(), is_temporary, "{code}");
                assert!(error.to_string().contains("text"), "{error}");
                seen.push(code);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (10_002..=10_227).collect::<Vec<_>>(), "each code once");
    }

    #[test]
    fn codes_of_later_servers_go_by_their_status() {
        for (status, wanted) in [
            (503, ErrorKind::Unavailable),
            (429, ErrorKind::Backpressure),
            (400, ErrorKind::Unexpected),
            (500, ErrorKind::Unexpected),
        ] {
            assert_eq!(kind_of(99_999, status), wanted, "{status}");
        }
    }
}
