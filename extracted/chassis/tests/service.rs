//! What every service does besides its own routes.

use std::net::Ipv4Addr;

use axum::http::Method;
use axum::routing::get;
use axum::{Extension, Router};
use estate_chassis::client::{call, get as fetch};
use estate_chassis::service::{Running, start};
use estate_chassis::trace::TraceParent;

async fn started() -> Running {
    let kept = async |parent: Option<Extension<TraceParent>>| {
        parent.map_or_else(|| "none".to_owned(), |Extension(parent)| parent.to_string())
    };
    let router = Router::new().route("/parent", get(kept));
    start((Ipv4Addr::LOCALHOST, 0).into(), router).await.expect("the service starts")
}

#[tokio::test]
async fn every_service_is_healthy_and_refuses_in_one_form() {
    let service = started().await;

    let healthy = fetch(service.address(), "/healthz").await.expect("an answer");
    let nowhere = fetch(service.address(), "/nowhere").await.expect("an answer");
    let wrong = call(service.address(), Method::DELETE, "/parent", &[], "").await.expect("an answer");

    assert_eq!((healthy.status.as_u16(), healthy.text().as_str()), (200, "ok\n"));
    assert_eq!((nowhere.status.as_u16(), nowhere.header("content-type")), (404, "application/problem+json"));
    assert_eq!((wrong.status.as_u16(), wrong.json()["code"].as_str()), (405, Some("method_not_allowed")));
    service.stop().await;
}

#[tokio::test]
async fn a_well_formed_trace_is_kept_and_another_is_not() {
    let service = started().await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    for (sent, kept) in [(good, good), ("00-nonsense", "none")] {
        let answer = call(service.address(), Method::GET, "/parent", &[("traceparent", sent)], "").await;

        assert_eq!(answer.expect("an answer").text(), kept);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_stopped_service_takes_no_more_requests() {
    let service = started().await;
    let address = service.address();

    service.stop().await;

    assert!(fetch(address, "/healthz").await.is_err());
}
