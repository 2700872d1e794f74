//! The shop as people use it: log in, fill the cart, buy once.

use axum::http::Method;
use estate_chassis::client::Answer;
use estate_chassis::dataset::users;

use crate::support::Monolith;

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

fn credentials(user: &users::User) -> String {
    format!("email={}&password={}", user.email.replace('@', "%40"), user.password)
}

/// Logs a user in that may buy, and gives the id of the session.
async fn log_in(monolith: &Monolith) -> String {
    let user = users::users().into_iter().find(|user| !user.blocked && user.country == "DE").expect("a buyer");
    let answer = monolith.send(Method::POST, "/login", &FORM, &credentials(&user)).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let cookie = answer.header("set-cookie").split(';').next().and_then(|pair| pair.strip_prefix("SHOPSID="));
    cookie.expect("a session").to_owned()
}

fn token(page: &Answer) -> String {
    let html = page.text();
    let (_, after) = html.split_once("name=\"_csrf\" value=\"").expect("a hidden token");
    after.split('"').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_login_leaks_the_internal_host_in_location_and_cookie() {
    let monolith = Monolith::start().await;
    let user = users::users().into_iter().find(|user| !user.blocked).expect("a user");

    let answer = monolith.send(Method::POST, "/login", &FORM, &credentials(&user)).await;

    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), "http://legacy.internal:8000/account");
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("SHOPSID=") && cookie.contains("; Path=/shop; Domain=legacy.internal"), "{cookie}");
    monolith.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_blocked_user_get_no_session() {
    let monolith = Monolith::start().await;
    let everyone = users::users();
    let blocked = everyone.iter().find(|user| user.blocked).expect("a blocked user");
    let mut wrong = everyone.iter().find(|user| !user.blocked).expect("a user").clone();
    wrong.password = "guess".to_owned();

    for (user, status) in [(blocked, 403), (&wrong, 401)] {
        let answer = monolith.send(Method::POST, "/login", &FORM, &credentials(user)).await;
        assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (status, ""));
    }
    assert_eq!(monolith.count("SELECT count(*) FROM sessions").await, 0);
    for path in ["/account", "/cart", "/checkout"] {
        let answer = monolith.page(path, "made-up").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/login"), "{path}");
    }
    monolith.stop().await;
}

#[tokio::test]
async fn the_shop_can_be_browsed_and_escapes_what_it_shows() {
    let monolith = Monolith::start().await;
    let mut transaction = monolith.database.begin().await.expect("a transaction");
    sqlx::query("UPDATE products SET name = '<script>\"''&' WHERE sku = 'SKU-1042'")
        .execute(&mut *transaction)
        .await
        .expect("an update");
    transaction.commit().await.expect("a commit");

    let home = monolith.get("/shop?category=kitchen").await;
    let article = monolith.get("/shop/products/SKU-1042").await;
    let missing = monolith.get("/shop/products/%3Cb%3E").await;

    assert_eq!((home.status.as_u16(), article.status.as_u16(), missing.status.as_u16()), (200, 200, 404));
    for page in [&home, &article, &missing] {
        assert!(page.header("content-type").starts_with("text/html"));
        assert!(!page.text().contains("<script>") && !page.text().contains("<b>&quot;"));
    }
    assert!(article.text().contains("<h1>&lt;script&gt;&quot;&#39;&amp;</h1>"), "{}", article.text());
    assert!(missing.text().contains("&lt;b&gt;"));
    assert_eq!(monolith.get("/").await.header("location"), "/shop");
    for unreadable in [monolith.get("/shop?page=x").await, monolith.form("/login", "", "email=only").await] {
        assert_eq!(unreadable.status, 400);
        assert!(unreadable.header("content-type").starts_with("text/html"));
    }
    monolith.stop().await;
}

#[tokio::test]
async fn a_double_click_on_the_form_makes_one_order() {
    let monolith = Monolith::start().await;
    let sid = log_in(&monolith).await;
    assert_eq!(monolith.form("/cart", &sid, "sku=SKU-1042&qty=2").await.status, 303);
    assert!(monolith.page("/cart", &sid).await.text().contains("39.98 EUR"));
    let csrf = token(&monolith.page("/checkout", &sid).await);

    let body = format!("_csrf={csrf}&card_token=tok_visa&coupon=SAVE10");
    let (first, second) =
        tokio::join!(monolith.form("/checkout", &sid, &body), monolith.form("/checkout", &sid, &body));

    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(monolith.count("SELECT count(*) FROM orders WHERE order_no > 20000").await, 1);
    assert_eq!(monolith.count("SELECT count(*) FROM payments WHERE order_no > 20000").await, 1);
    assert!(monolith.page("/account", &sid).await.text().contains("/invoices/20001.pdf"));
    monolith.stop().await;
}

#[tokio::test]
async fn a_declined_card_keeps_the_cart_and_brings_a_fresh_form() {
    let monolith = Monolith::start().await;
    let sid = log_in(&monolith).await;
    monolith.form("/cart", &sid, "sku=SKU-1042&qty=1").await;
    let csrf = token(&monolith.page("/checkout", &sid).await);

    let declined = monolith.form("/checkout", &sid, &format!("_csrf={csrf}&card_token=tok_declined")).await;
    let stale = monolith.form("/checkout", &sid, &format!("_csrf={csrf}&card_token=tok_visa")).await;
    let fresh = token(&stale);
    let bought = monolith.form("/checkout", &sid, &format!("_csrf={fresh}&card_token=tok_visa")).await;

    assert_eq!([declined.status, stale.status, bought.status].map(|status| status.as_u16()), [402, 409, 200]);
    assert!(declined.text().contains("the card was declined"));
    assert_eq!(monolith.count("SELECT count(*) FROM orders WHERE order_no > 20000").await, 1);
    monolith.stop().await;
}

#[tokio::test]
async fn a_token_is_worth_nothing_in_another_session() {
    let monolith = Monolith::start().await;
    let (mine, theirs) = (log_in(&monolith).await, log_in(&monolith).await);
    monolith.form("/cart", &mine, "sku=SKU-1042&qty=1").await;
    let csrf = token(&monolith.page("/checkout", &theirs).await);

    let crossed = monolith.form("/checkout", &mine, &format!("_csrf={csrf}&card_token=tok_visa")).await;

    assert_eq!(crossed.status, 409);
    assert_eq!(monolith.count("SELECT count(*) FROM orders WHERE order_no > 20000").await, 0);
    monolith.stop().await;
}
