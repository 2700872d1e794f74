//! `/soap/OrderService`: a batch job asks for the state of orders, in SOAP 1.1.

use axum::Router;
use axum::extract::State;
use axum::extract::rejection::StringRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use estate_chassis::problem::Problem;

use super::Decimal;
use crate::checkout::orders;
use crate::escaped::Escaped;
use crate::shop::Shop;

const NAMESPACE: &str = "urn:oldmill:orders:1";

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/soap/OrderService", post(get_order))
}

async fn get_order(State(shop): State<Shop>, envelope: Result<String, StringRejection>) -> Response {
    let Ok(envelope) = envelope else { return fault("Client", "the envelope cannot be read") };
    let Some(order_no) = text_of(&envelope, "orderNo").and_then(|text| text.trim().parse().ok()) else {
        return fault("Client", "GetOrder needs an orderNo");
    };
    match answer(&shop, order_no).await {
        Ok(body) => soap(StatusCode::OK, &body),
        Err(problem) if problem.status.is_client_error() => fault("Client", &problem.detail),
        Err(problem) => fault("Server", &problem.detail),
    }
}

async fn answer(shop: &Shop, order_no: i64) -> Result<String, Problem> {
    let found = orders::find(&mut *shop.database.reader().acquire().await?, order_no).await?;
    Ok(format!(
        "<o:GetOrderResponse xmlns:o=\"{NAMESPACE}\"><o:orderNo>{}</o:orderNo><o:status>{}</o:status>\
         <o:total currency=\"{}\">{}</o:total><o:placedAt>{}</o:placedAt></o:GetOrderResponse>",
        found.order.order_no,
        Escaped(&found.order.status),
        Escaped(&found.order.currency),
        Decimal(found.order.total_cents),
        Escaped(&found.order.placed_at)
    ))
}

/// SOAP 1.1 answers every fault with 500.
fn fault(code: &str, message: &str) -> Response {
    let message = Escaped(message);
    let body = format!("<s:Fault><faultcode>s:{code}</faultcode><faultstring>{message}</faultstring></s:Fault>");
    soap(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

fn soap(status: StatusCode, body: &str) -> Response {
    let envelope = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{body}</s:Body></s:Envelope>\n"
    );
    (status, [(header::CONTENT_TYPE, "text/xml; charset=utf-8")], envelope).into_response()
}

/// The text of the first element of this name, whatever its prefix. The one client there is sends one element and no
/// entities, so this reads no more XML than that.
fn text_of<'xml>(xml: &'xml str, name: &str) -> Option<&'xml str> {
    let mut rest = xml;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, content) = after.split_once('>')?;
        let qualified = tag.split_whitespace().next().unwrap_or_default();
        if qualified.rsplit(':').next() == Some(name) && !tag.starts_with('/') && !tag.ends_with('/') {
            return content.split_once('<').map(|(text, _)| text);
        }
        rest = content;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_found_by_its_local_name() {
        let envelope = "<s:Envelope><s:Body><o:GetOrder a='1'><o:orderNo id=\"x\"> 17 </o:orderNo></o:GetOrder>";

        assert_eq!(text_of(envelope, "orderNo"), Some(" 17 "));
        for nothing in ["", "<orderNo", "<orderNo/>", "</o:orderNo>1<", "<orderNo>17", "text"] {
            assert_eq!(text_of(nothing, "orderNo"), None, "{nothing}");
        }
    }
}
