//! The dashboard of the built binary by plain HTTP, and what its forms do to users.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::support::backend::Backend;
use crate::support::proxy::{Answer, Proxy, exchange};

/// A browser without scripts.
struct Browser<'a> {
    proxy: &'a Proxy,
    cookie: String,
}

impl Browser<'_> {
    async fn logged_in(proxy: &Proxy) -> Browser<'_> {
        let token = std::fs::read_to_string(proxy.state_dir().join("admin-token")).unwrap();
        let mut browser = Browser { proxy, cookie: String::new() };
        let answer = browser.submit("/login", &format!("token={}&name=ann", token.trim()), "same-origin").await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap();
        cookie.split(';').next().unwrap().clone_into(&mut browser.cookie);
        browser
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("host", self.proxy.admin.to_string()).header("cookie", &self.cookie);
        exchange(self.proxy.admin, request.body(Full::new(Bytes::new())).unwrap()).await.unwrap()
    }

    async fn submit(&self, path: &str, fields: &str, from: &str) -> Answer {
        let request = Request::post(path)
            .header("host", self.proxy.admin.to_string())
            .header("cookie", &self.cookie)
            .header("sec-fetch-site", from)
            .header("content-type", "application/x-www-form-urlencoded");
        exchange(self.proxy.admin, request.body(Full::new(Bytes::from(fields.to_owned()))).unwrap()).await.unwrap()
    }

    /// What a hidden field of a page holds.
    async fn field(&self, path: &str, name: &str) -> String {
        let page = self.get(path).await.body;
        let rest = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{page}")).1;
        rest.split('"').next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_form_moves_users_and_another_sites_form_does_not() {
    let (legacy, extracted) = (Backend::answering(200, "legacy").await, Backend::answering(200, "extracted").await);
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: cart, match: '/cart/{id}', extracted: extracted, weight: 0%}")
        .start()
        .await;
    let browser = Browser::logged_in(&proxy).await;
    assert_eq!(proxy.get("/cart/7").await.body, "legacy");

    let plan = "/routes/cart/plan?act=weight&weight=100";
    let (csrf, version) = (browser.field(plan, "csrf").await, browser.field(plan, "version").await);
    let fields = format!("csrf={csrf}&version={version}&act=weight&weight=100&reason=all+of+it");
    assert_eq!(browser.submit("/routes/cart/do", &fields, "cross-site").await.status, 403);
    assert_eq!(proxy.get("/cart/7").await.body, "legacy");
    assert_eq!(browser.submit("/routes/cart/do", &fields, "same-origin").await.status, 303);
    assert_eq!(proxy.get("/cart/7").await.body, "extracted");

    assert_eq!(browser.submit("/routes/cart/do", &fields, "same-origin").await.status, 412, "it was moved since");
    let kill = format!("csrf={csrf}&act=kill&reason=incident");
    assert_eq!(browser.submit("/routes/cart/do", &kill, "same-origin").await.status, 303);
    assert_eq!(proxy.get("/cart/7").await.body, "legacy");
    let overview = browser.get("/").await.body;
    assert!(overview.contains("One thing needs somebody.") && overview.contains("killed: all to legacy"), "{overview}");
    assert!(browser.get("/config").await.body.contains("In force: accepted"), "and every other page is there");
    assert_eq!(browser.get("/proxy").await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_refused_file_is_shown_at_its_line() {
    let (legacy, extracted) = (Backend::answering(200, "legacy").await, Backend::answering(200, "extracted").await);
    let plan = Proxy::between(&legacy, &extracted).route("{name: cart, match: '/cart/{id}', extracted: extracted}");
    let text = plan.text().to_owned();
    let proxy = plan.start().await;
    let browser = Browser::logged_in(&proxy).await;
    proxy.write_routes(&format!("{text}  - {{name: cart, wieght: <b>}}\n"));
    let mut page = String::new();
    for _ in 0..400 {
        page = browser.get("/config").await.body;
        if page.contains("Refused at") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(page.contains("did you mean") || page.contains("weight"), "{page}");
    assert!(page.contains("<mark>") && !page.contains("<b>}"), "the line is shown, as text: {page}");
}
