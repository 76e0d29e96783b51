//! Which answers to HTTP requests a cache that several callers share may keep, and for which requests it may give them again:
//! what RFC 9111 says, narrowed to what is worth it here. Pure but for the clocks that it is given.
//!
//! Kept are whole answers to `GET` that say themselves for how long they are good. Nothing is guessed from their age, nothing is
//! given when it is too old, and an answer that sets a cookie is nobody else's. `HEAD` is answered from them too.

use super::Forwarded;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use std::time::{Duration, Instant, SystemTime};

/// What a header takes beside its name and value.
const PER_HEADER: usize = super::PART;
/// The longest that anything is good for: what RFC 9111 has caches take for numbers that they cannot hold.
const LONGEST: u64 = 1 << 31;
/// Whole answers whose meaning does not depend on anything but the request.
const KEPT: [u16; 14] = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];
/// Headers of one connection, of one exchange, or of this cache.
const NOT_KEPT: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::AGE,
];
/// What `304 Not Modified` has of the answer for which it stands.
const OF_NOT_MODIFIED: [HeaderName; 6] =
    [header::CACHE_CONTROL, header::CONTENT_LOCATION, header::DATE, header::ETAG, header::EXPIRES, header::VARY];

/// What `Cache-Control` says, as far as it matters here. Of those with a number the outer `None` means that it is not there, and
/// a number that cannot be read counts as 0.
#[derive(Debug, Default)]
struct Directives {
    no_store: bool,
    no_cache: bool,
    private: bool,
    public: bool,
    must_revalidate: bool,
    must_understand: bool,
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    min_fresh: Option<u64>,
}

/// How fresh a request wants its answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions {
    max_age: Option<Duration>,
    min_fresh: Duration,
}

/// A whole answer that is kept. Its headers and its body are copies.
#[derive(Debug)]
pub(crate) struct Stored {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// The headers of the request that its `Vary` names, with their values.
    selected: Vec<(HeaderName, Vec<HeaderValue>)>,
    received: Instant,
    /// Its age when it was received.
    age: Duration,
    /// The age at which it is too old.
    lifetime: Duration,
}

/// Reads `Cache-Control`, and `Pragma` where that is not there.
fn directives(headers: &HeaderMap) -> Directives {
    let mut read = Directives::default();
    if !headers.contains_key(header::CACHE_CONTROL) {
        read.no_cache = all(headers, header::PRAGMA).any(|word| word.eq_ignore_ascii_case("no-cache"));
        return read;
    }
    for item in all(headers, header::CACHE_CONTROL) {
        let (name, value) = item.split_once('=').map_or((item, ""), |(name, value)| (name.trim_end(), value.trim()));
        match name.to_ascii_lowercase().as_str() {
            "no-store" => read.no_store = true,
            // With names of headers they mean less, which nobody has to make use of.
            "no-cache" => read.no_cache = true,
            "private" => read.private = true,
            "public" => read.public = true,
            "must-revalidate" => read.must_revalidate = true,
            "must-understand" => read.must_understand = true,
            "max-age" => set(&mut read.max_age, value),
            "s-maxage" => set(&mut read.s_maxage, value),
            "min-fresh" => set(&mut read.min_fresh, value),
            _ => {}
        }
    }
    read
}

/// Notes a number of seconds. One that contradicts another, or is none, is 0: what cannot be understood is not kept.
fn set(seconds: &mut Option<u64>, value: &str) {
    let value = value.trim_matches('"');
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { value.parse().unwrap_or(LONGEST).min(LONGEST) } else { 0 };
    *seconds = Some(if seconds.is_none_or(|before| before == number) { number } else { 0 });
}

/// The items of a header that is a list. Commas in quotes divide nothing.
fn all(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| {
            let (mut quoted, mut escaped) = (false, false);
            value.split(move |c| {
                let divides = c == ',' && !quoted;
                quoted ^= c == '"' && !escaped;
                escaped = quoted && c == '\\' && !escaped;
                divides
            })
        })
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Whether nothing may be kept of what a request with these headers gets.
pub(crate) fn is_secret(headers: &HeaderMap) -> bool {
    directives(headers).no_store
}

/// What a request wants of a kept answer. `Err` says why it gets none.
pub(crate) fn conditions(method: &Method, headers: &HeaderMap, has_body: bool) -> Result<Conditions, Forwarded> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Forwarded::Method);
    }
    // What is in a body is in no key, parts of answers are not kept, and these conditions are for whoever has the thing itself.
    const OTHERS: [HeaderName; 4] = [header::RANGE, header::IF_RANGE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE];
    if has_body || OTHERS.iter().any(|name| headers.contains_key(name)) {
        return Err(Forwarded::Bypass);
    }
    let wants = directives(headers);
    if wants.no_cache || wants.no_store {
        return Err(Forwarded::Request);
    }
    let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
    Ok(Conditions { max_age: seconds(wants.max_age), min_fresh: seconds(wants.min_fresh).unwrap_or_default() })
}

impl Stored {
    /// The head of an answer, received just now, if it may be kept for others. `request` are the headers of the request for it.
    pub(crate) fn head(request: &HeaderMap, response: &http::response::Parts, now: SystemTime) -> Option<Self> {
        let headers = &response.headers;
        let says = directives(headers);
        let kept = KEPT.contains(&response.status.as_u16());
        // Whoever understands the status, as this cache does those, need not obey the `no-store` beside this.
        let no_store = says.no_store && !(says.must_understand && kept);
        let foreign = request.contains_key(header::AUTHORIZATION)
            && !(says.public || says.must_revalidate || says.s_maxage.is_some());
        if !kept || no_store || says.no_cache || says.private || foreign || headers.contains_key(header::SET_COOKIE) {
            return None;
        }
        let date = date(headers, header::DATE).unwrap_or(now);
        let age = all(headers, header::AGE).next().and_then(|age| age.parse().ok()).map(Duration::from_secs);
        let age = age.unwrap_or_default().max(now.duration_since(date).unwrap_or_default());
        let lifetime = match says.s_maxage.or(says.max_age) {
            Some(seconds) => Duration::from_secs(seconds),
            None => self::date(headers, header::EXPIRES)?.duration_since(date).ok()?,
        };
        if age >= lifetime {
            return None;
        }
        let mut selected = Vec::new();
        for name in all(headers, header::VARY) {
            // `*`, and whatever else is no name, means that no other request is like this one.
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            if name.as_str() == "*" {
                return None;
            }
            let values = request.get_all(&name).into_iter().map(detached).collect();
            selected.push((name, values));
        }
        let named: Vec<&str> = all(headers, header::CONNECTION).collect();
        let mut kept = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            if !NOT_KEPT.contains(name) && !named.iter().any(|other| name.as_str().eq_ignore_ascii_case(other)) {
                kept.append(name, detached(value));
            }
        }
        if !kept.contains_key(header::DATE)
            && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            // Without it whoever gets the answer later would take it for one that was made then.
            kept.insert(header::DATE, date);
        }
        let (status, received) = (response.status, Instant::now());
        Some(Stored { status, headers: kept, body: Bytes::new(), selected, received, age, lifetime })
    }

    /// The same with its body, which is whole.
    pub(crate) fn with_body(self, body: Vec<u8>) -> Self {
        // No more than it is long, whatever the buffer was.
        Stored { body: Bytes::from(body.into_boxed_slice()), ..self }
    }

    /// Bytes that it takes.
    pub(super) fn cost(&self) -> usize {
        let header = |name: &HeaderName, value: &HeaderValue| PER_HEADER + name.as_str().len() + value.len();
        let headers: usize = self.headers.iter().map(|(name, value)| header(name, value)).sum();
        let selected = self.selected.iter().map(|(name, values)| {
            PER_HEADER + name.as_str().len() + values.iter().map(|value| PER_HEADER + value.len()).sum::<usize>()
        });
        size_of::<Self>() + headers + selected.sum::<usize>() + self.body.len()
    }

    /// Whether a request with these headers is like the one that it answered.
    pub(super) fn serves(&self, request: &HeaderMap) -> bool {
        self.selected.iter().all(|(name, values)| request.get_all(name).into_iter().eq(values))
    }

    /// Whether it answers the requests that `other` answers.
    pub(super) fn replaces(&self, other: &Stored) -> bool {
        self.selected == other.selected
    }

    /// For how long it is still good, if it is good enough.
    pub(super) fn left(&self, conditions: &Conditions) -> Result<Duration, Forwarded> {
        let age = self.age + self.received.elapsed();
        let left = self.lifetime.checked_sub(age).filter(|left| !left.is_zero()).ok_or(Forwarded::Stale)?;
        let fresh = conditions.max_age.is_none_or(|most| age <= most) && left >= conditions.min_fresh;
        if fresh { Ok(left) } else { Err(Forwarded::Request) }
    }

    /// The answer to a request with these headers: whole, its head alone, or that the client has it already.
    pub(crate) fn answer(&self, method: &Method, request: &HeaderMap) -> Response<Bytes> {
        let not_modified = self.status == StatusCode::OK && self.known_to(request);
        let mut response = Response::new(match not_modified || *method == Method::HEAD {
            true => Bytes::new(),
            false => self.body.clone(),
        });
        if not_modified {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            for name in OF_NOT_MODIFIED {
                for value in self.headers.get_all(&name) {
                    response.headers_mut().append(&name, value.clone());
                }
            }
        } else {
            *response.status_mut() = self.status;
            *response.headers_mut() = self.headers.clone();
            if *method == Method::HEAD && self.status != StatusCode::NO_CONTENT {
                // What the body would have, which is not there to be measured.
                response.headers_mut().insert(header::CONTENT_LENGTH, self.body.len().into());
            }
        }
        let age = (self.age + self.received.elapsed()).as_secs();
        response.headers_mut().insert(header::AGE, age.into());
        response
    }

    /// Whether the client says that it has this very answer.
    fn known_to(&self, request: &HeaderMap) -> bool {
        if request.contains_key(header::IF_NONE_MATCH) {
            let own = self.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(opaque);
            return all(request, header::IF_NONE_MATCH).any(|tag| tag == "*" || Some(opaque(tag)) == own);
        }
        let modified = date(&self.headers, header::LAST_MODIFIED);
        let since = date(request, header::IF_MODIFIED_SINCE);
        modified.zip(since).is_some_and(|(modified, since)| modified <= since)
    }
}

/// A tag of an answer without the mark that it is weak, which makes no difference here.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// A value that keeps no buffer of a connection alive.
fn detached(value: &HeaderValue) -> HeaderValue {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    copy
}

/// A header that is one date.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_900_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn http_date(ago: i64) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.checked_add_signed(-ago).unwrap()))
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn stored(status: u16, request: &[&str], response: &[&str]) -> Option<Stored> {
        let mut head = Response::new(()).into_parts().0;
        head.status = StatusCode::from_u16(status).unwrap();
        head.headers = headers(response);
        Stored::head(&headers(request), &head, now())
    }

    /// How many seconds it may be given again; 0 where it is not kept.
    #[track_caller]
    fn check(request: &[&str], response: &[&str], seconds: u64) {
        let left = stored(200, request, response).map(|stored| stored.lifetime.saturating_sub(stored.age).as_secs());
        assert_eq!(left.unwrap_or_default(), seconds, "{request:?} {response:?}");
    }

    #[test]
    fn only_an_explicit_time_counts() {
        check(&[], &["cache-control: max-age=60"], 60);
        check(&[], &["cache-control: Max-Age=60"], 60);
        check(&[], &["cache-control: max-age=\"60\""], 60);
        check(&[], &["cache-control: max-age=60, s-maxage=10"], 10);
        check(&[], &["cache-control: s-maxage=0, max-age=60"], 0);
        check(&[], &[&format!("expires: {}", http_date(-30))], 30);
        check(&[], &[&format!("expires: {}", http_date(-30)), "cache-control: max-age=5"], 5);
        check(&[], &[&format!("expires: {}", http_date(30))], 0);
        for none in ["expires: 0", "cache-control: public", "cache-control: max-age=0", "cache-control: immutable"] {
            check(&[], &[none], 0);
        }
        check(&[], &[&format!("last-modified: {}", http_date(1_000_000))], 0);
        check(&[], &[], 0);
    }

    #[test]
    fn what_cannot_be_understood_is_not_kept() {
        for age in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=60, max-age=61", "max-age=soon"] {
            check(&[], &[&format!("cache-control: {age}")], 0);
        }
        check(&[], &["cache-control: max-age=60", "cache-control: max-age=60"], 60);
        check(&[], &["cache-control: max-age=99999999999999999999999"], LONGEST);
        check(&[], &["cache-control: community=\"a, no-store\", max-age=60"], 60);
        check(&[], &["cache-control: community=\"a\\\", no-store\", max-age=60"], 60);
    }

    #[test]
    fn what_is_for_one_caller_is_not_kept() {
        for not in ["no-store", "No-Store", "private", "private=\"x\"", "no-cache", "PRIVATE"] {
            check(&[], &[&format!("cache-control: max-age=60, {not}")], 0);
            check(&[], &[&format!("cache-control: {not}"), "cache-control: max-age=60"], 0);
        }
        check(&[], &["cache-control: max-age=60", "set-cookie: a=b"], 0);
        check(&[], &["cache-control: max-age=60, no-store, must-understand"], 60);
        check(&["authorization: x"], &["cache-control: max-age=60"], 0);
        for allows in ["public", "must-revalidate", "s-maxage=60"] {
            check(&["authorization: x"], &[&format!("cache-control: max-age=60, {allows}")], 60);
        }
        check(&[], &["cache-control: max-age=60", "vary: *"], 0);
        check(&[], &["cache-control: max-age=60", "vary: accept, *"], 0);
        for status in [206, 304, 500, 503, 299] {
            assert!(stored(status, &[], &["cache-control: max-age=60"]).is_none(), "{status}");
        }
        assert!(stored(404, &[], &["cache-control: max-age=60"]).is_some());
    }

    #[test]
    fn time_elsewhere_counts() {
        check(&[], &["cache-control: max-age=60", "age: 20"], 40);
        check(&[], &["cache-control: max-age=60", &format!("date: {}", http_date(50))], 10);
        check(&[], &["cache-control: max-age=60", "age: 20", &format!("date: {}", http_date(50))], 10);
        check(&[], &["cache-control: max-age=60", "age: 60"], 0);
        // A clock that is ahead makes nothing younger.
        check(&[], &["cache-control: max-age=60", &format!("date: {}", http_date(-50))], 60);
    }

    #[test]
    fn requests_that_differ_in_what_varies_are_not_served() {
        let stored =
            stored(200, &["accept: a", "accept: b"], &["cache-control: max-age=60", "vary: Accept, Foo"]).unwrap();
        assert!(stored.serves(&headers(&["accept: a", "accept: b", "other: x"])));
        for other in [&["accept: a"][..], &["accept: b", "accept: a"], &[], &["accept: a", "accept: b", "foo: x"]] {
            assert!(!stored.serves(&headers(other)), "{other:?}");
        }
    }

    #[track_caller]
    fn looked_up(method: &Method, request: &[&str], expected: Result<(), Forwarded>) {
        let stored = stored(200, &[], &["cache-control: max-age=60", "age: 20"]).unwrap();
        let left = conditions(method, &headers(request), false).and_then(|wants| stored.left(&wants));
        assert_eq!(left.map(drop), expected, "{request:?}");
    }

    #[test]
    fn a_request_may_want_something_else() {
        looked_up(&Method::GET, &[], Ok(()));
        looked_up(&Method::HEAD, &["cache-control: max-age=30, min-fresh=10"], Ok(()));
        looked_up(&Method::GET, &["cache-control: max-age=19"], Err(Forwarded::Request));
        looked_up(&Method::GET, &["cache-control: min-fresh=50"], Err(Forwarded::Request));
        looked_up(&Method::POST, &[], Err(Forwarded::Method));
        for other in ["range: bytes=0-1", "if-match: \"a\"", "if-range: \"a\""] {
            looked_up(&Method::GET, &[other], Err(Forwarded::Bypass));
        }
        assert!(matches!(conditions(&Method::GET, &HeaderMap::new(), true), Err(Forwarded::Bypass)));
        let anew = ["cache-control: no-cache", "cache-control: max-age=60, NO-CACHE", "pragma: no-cache"];
        for anew in anew {
            looked_up(&Method::GET, &[anew], Err(Forwarded::Request));
            assert!(!is_secret(&headers(&[anew])), "{anew}");
        }
        looked_up(&Method::GET, &["pragma: no-cache", "cache-control: max-age=60"], Ok(()));
        looked_up(&Method::GET, &["cache-control: no-store"], Err(Forwarded::Request));
        assert!(is_secret(&headers(&["cache-control: no-store"])));
    }

    #[test]
    fn too_old_is_stale() {
        let old = Stored { age: Duration::from_secs(60), ..stored(200, &[], &["cache-control: max-age=60"]).unwrap() };
        assert_eq!(old.left(&Conditions::default()), Err(Forwarded::Stale));
    }

    #[track_caller]
    fn answered(method: &Method, request: &[&str], status: u16, length: usize) -> Response<Bytes> {
        let modified = format!("last-modified: {}", http_date(100));
        let lines = [
            "cache-control: max-age=60",
            "etag: W/\"a\"",
            &modified,
            "age: 7",
            "connection: x-hop",
            "x-hop: 1",
            "x: 2",
        ];
        let answer = stored(200, &[], &lines).unwrap().with_body(b"body".to_vec()).answer(method, &headers(request));
        assert_eq!((answer.status().as_u16(), answer.body().len()), (status, length), "{request:?}");
        let found = ["age", "connection", "x-hop"].map(|name| answer.headers().get(name).map(HeaderValue::as_bytes));
        assert_eq!(found, [Some(&b"7"[..]), None, None]);
        assert_eq!(answer.headers()["date"], http_date(0));
        answer
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let whole = answered(&Method::GET, &[], 200, 4);
        assert_eq!(whole.headers()["x"], "2");
        let head = answered(&Method::HEAD, &[], 200, 0);
        assert_eq!(head.headers()["content-length"], "4");
        for known in ["if-none-match: \"a\"", "if-none-match: \"b\", W/\"a\"", "if-none-match: *"] {
            let answer = answered(&Method::GET, &[known], 304, 0);
            assert!(answer.headers().contains_key("etag") && !answer.headers().contains_key("x"));
        }
        let since = |ago| format!("if-modified-since: {}", http_date(ago));
        answered(&Method::GET, &[&since(100)], 304, 0);
        answered(&Method::GET, &[&since(101)], 200, 4);
        // The tag alone counts where there is one.
        answered(&Method::GET, &["if-none-match: \"b\"", &since(0)], 200, 4);
    }
}
