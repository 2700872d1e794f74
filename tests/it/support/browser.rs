//! A client that keeps its cookies.

use std::collections::BTreeMap;

use http::Method;

use crate::support::proxy::{Answer, Proxy};

/// A client that keeps its cookies, over any number of proxies of one site.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    cookies: BTreeMap<String, String>,
    /// Sent with every request.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Browser {
    /// With one cookie of the site's own.
    pub(crate) fn with_cookie(pair: &str) -> Browser {
        let mut browser = Browser::default();
        browser.keep(pair);
        browser
    }

    pub(crate) async fn get(&mut self, proxy: &Proxy, target: &str) -> Answer {
        self.send(proxy, Method::GET, target, &[]).await
    }

    pub(crate) async fn post(&mut self, proxy: &Proxy, target: &str) -> Answer {
        self.send(proxy, Method::POST, target, &[]).await
    }

    pub(crate) async fn send(
        &mut self,
        proxy: &Proxy,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let line = pairs.join("; ");
        let mut all = headers.to_vec();
        all.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        if !line.is_empty() {
            all.push(("cookie", &line));
        }
        let answer = proxy.send(method, target, &all, "").await;
        for cookie in answer.headers.get_all("set-cookie") {
            self.keep(cookie.to_str().unwrap());
        }
        answer
    }

    fn keep(&mut self, cookie: &str) {
        let pair = cookie.split(';').next().unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        self.cookies.insert(name.to_owned(), value.to_owned());
    }
}
