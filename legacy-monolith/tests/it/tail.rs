//! The old endpoints that nobody takes out.

use axum::http::Method;

use crate::support::Monolith;

const XML: [(&str, &str); 1] = [("content-type", "text/xml")];
const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

#[tokio::test]
async fn the_feed_lists_every_article_that_is_sold() {
    let monolith = Monolith::start().await;

    let feed = monolith.get("/products.xml").await;

    assert_eq!(feed.header("content-type"), "application/xml; charset=utf-8");
    assert_eq!(feed.text().matches("<product sku=").count(), 370);
    assert!(feed.text().contains("<name>Steel teapot, 1 litre</name><price currency=\"EUR\">19.99</price>"));
    monolith.stop().await;
}

#[tokio::test]
async fn the_batch_job_learns_the_state_of_an_order_or_gets_a_fault() {
    let monolith = Monolith::start().await;
    let envelope =
        |no: &str| format!("<s:Envelope><s:Body><GetOrder><orderNo>{no}</orderNo></GetOrder></s:Body></s:Envelope>");

    let known = monolith.send(Method::POST, "/soap/OrderService", &XML, &envelope("7")).await;
    let unknown = monolith.send(Method::POST, "/soap/OrderService", &XML, &envelope("999999")).await;
    let garbage = monolith.send(Method::POST, "/soap/OrderService", &XML, "<").await;

    assert_eq!(known.status, 200);
    assert!(known.text().contains("<o:orderNo>7</o:orderNo><o:status>SHIPPED</o:status>"), "{}", known.text());
    for fault in [unknown, garbage] {
        assert_eq!(fault.status, 500);
        assert!(fault.text().contains("<faultcode>s:Client</faultcode>"));
    }
    monolith.stop().await;
}

#[tokio::test]
async fn two_copies_of_an_invoice_differ_only_in_the_moment_of_their_making() {
    let monolith = Monolith::start().await;

    let invoice = monolith.get("/invoices/7.pdf").await;

    assert_eq!((invoice.status.as_u16(), invoice.header("content-type")), (200, "application/pdf"));
    let text = invoice.text();
    assert!(text.starts_with("%PDF-1.4") && text.contains("/CreationDate (D:20") && text.contains("Total: 64.54 EUR"));
    for path in ["/invoices/7", "/invoices/x.pdf", "/invoices/999999.pdf"] {
        assert_eq!(monolith.get(path).await.status, 404, "{path}");
    }
    monolith.stop().await;
}

#[tokio::test]
async fn the_daily_report_has_a_line_for_each_of_the_last_days() {
    let monolith = Monolith::start().await;

    let report = monolith.get("/admin/reports/daily.csv").await;

    assert!(report.header("content-type").starts_with("text/csv"));
    let text = report.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 32);
    assert_eq!(lines[0], "day,orders,discount,tax,total");
    assert!(lines[1].starts_with("2026-10-31,") && lines[1].split(',').count() == 5, "{}", lines[1]);
    monolith.stop().await;
}

#[tokio::test]
async fn the_newsletter_takes_an_address_once_and_no_nonsense() {
    let monolith = Monolith::start().await;

    let mut statuses = Vec::new();
    for body in ["email=a%40example.com", "email=A%40Example.com", "email=nobody", "email=a+b%40example.com", "x=1"] {
        statuses.push(monolith.send(Method::POST, "/newsletter", &FORM, body).await.status.as_u16());
    }

    assert_eq!(statuses, [202, 202, 400, 400, 400]);
    assert_eq!(monolith.count("SELECT count(*) FROM newsletter").await, 1);
    monolith.stop().await;
}
