//! Status codes of command errors.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The status of an error response: a code of HTTP's number space.
///
/// ```
/// use purista_core::StatusCode;
///
/// assert_eq!((StatusCode::NOT_FOUND.as_u16(), StatusCode::NOT_FOUND.reason()), (404, "Not Found"));
/// assert_eq!(StatusCode::new(799).reason(), "Unknown Error");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatusCode(u16);

macro_rules! status_codes {
    ($($name:ident = $code:literal $reason:literal;)*) => {
        impl StatusCode {
            $(#[doc = concat!(stringify!($code), ", ", $reason, ".")] pub const $name: Self = Self($code);)*

            /// Returns the generic text of the code, `Unknown Error` for a code without one (wire format,
            /// section 1).
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self.0 { $($code => $reason,)* _ => "Unknown Error" }
            }
        }
    };
}

status_codes! {
    INFO_CONTINUE = 100 "Info Continue";
    INFO_SWITCHING_PROTOCOLS = 101 "Info Switching Protocols";
    INFO_PROCESSING = 102 "Info Processing";
    OK = 200 "OK";
    CREATED = 201 "Created";
    ACCEPTED = 202 "Accepted";
    NON_AUTHORITATIVE_INFO = 203 "Non Authoritative Info";
    NO_CONTENT = 204 "No Content";
    RESET_CONTENT = 205 "Reset Content";
    PARTIAL_CONTENT = 206 "Partial Content";
    MULTI_STATUS = 207 "Multi Status";
    ALREADY_REPORTED = 208 "Already Reported";
    IM_USED = 229 "IM Used";
    REDIRECT_MULTIPLE_CHOICES = 300 "Redirect Multiple Choices";
    REDIRECT_MOVED_PERMANENTLY = 301 "Redirect Moved Permanently";
    REDIRECT_FOUND = 302 "Redirect Found";
    REDIRECT_SEE_OTHER = 303 "Redirect See Other";
    REDIRECT_NOT_MODIFIED = 304 "Redirect Not Modified";
    REDIRECT_USE_PROXY = 305 "Redirect Use Proxy";
    REDIRECT_SWITCH_PROXY = 306 "Redirect Switch Proxy";
    REDIRECT_TEMP = 307 "Redirect Temp";
    REDIRECT_PERMANENT = 308 "Redirect Permanent";
    BAD_REQUEST = 400 "Bad Request";
    UNAUTHORIZED = 401 "Unauthorized";
    PAYMENT_REQUIRED = 402 "Payment Required";
    FORBIDDEN = 403 "Forbidden";
    NOT_FOUND = 404 "Not Found";
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed";
    NOT_ACCEPTABLE = 406 "Not Acceptable";
    PROXY_AUTH_REQUIRED = 407 "Proxy Auth Required";
    REQUEST_TIMEOUT = 408 "Request Timeout";
    CONFLICT = 409 "Conflict";
    GONE = 410 "Gone";
    LENGTH_REQUIRED = 411 "Length Required";
    PRECONDITION_FAILED = 412 "Precondition Failed";
    PAYLOAD_TOO_LARGE = 413 "Payload Too Large";
    URI_TOO_LONG = 414 "URI Too Long";
    UNSUPPORTED_MEDIA_TYPE = 415 "Unsupported Media Type";
    RANGE_NOT_SATISFIABLE = 416 "Range Not Satisfiable";
    EXPECTATION_FAILED = 417 "Expectation Failed";
    IM_A_TEAPOT = 418 "Im A Teapot";
    MISDIRECTED_REQUEST = 421 "Misdirected Request";
    UNPROCESSABLE_ENTITY = 422 "Unprocessable Entity";
    LOCKED = 423 "Locked";
    UPGRADE_REQUIRED = 426 "Upgrade Required";
    PRECONDITION_REQUIRED = 428 "Precondition Required";
    TOO_MANY_REQUESTS = 429 "Too Many Requests";
    REQUEST_HEADER_FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large";
    LOGIN_TIME_OUT = 440 "Login Time Out";
    RETRY_WITH = 449 "Retry With";
    UNAVAILABLE_FOR_LEGAL_REASONS = 451 "Unavailable For Legal Reasons";
    INVALID_TOKEN = 498 "Invalid Token";
    TOKEN_REQUIRED = 499 "Token Required";
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error";
    NOT_IMPLEMENTED = 501 "Not Implemented";
    BAD_GATEWAY = 502 "Bad Gateway";
    SERVICE_UNAVAILABLE = 503 "Service Unavailable";
    GATEWAY_TIMEOUT = 504 "Gateway Timeout";
    HTTP_VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported";
    VARIANT_ALSO_NEGOTIATES = 506 "Variant Also Negotiates";
    INSUFFICIENT_STORAGE = 507 "Insufficient Storage";
    LOOP_DETECTED = 508 "Loop Detected";
    BANDWIDTH_LIMIT_EXCEEDED = 509 "Bandwidth Limit Exceeded";
    NOT_EXTENDED = 510 "Not Extended";
    NETWORK_AUTH_REQUIRED = 511 "Network Auth Required";
}

impl StatusCode {
    /// Creates a status from its code.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// Returns the code.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}
