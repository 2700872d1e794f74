//! `/invoices/{no}.pdf`: made anew at every call, with the moment of its making in it.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use estate_chassis::problem::Problem;
use estate_chassis::service::ApiPath;
use estate_chassis::time;

use super::Decimal;
use super::pdf;
use crate::checkout::orders;
use crate::checkout::orders::OrderReply;
use crate::problems;
use crate::shop::Shop;

pub(super) fn routes() -> Router<Shop> {
    Router::new().route("/invoices/{file}", get(invoice))
}

async fn invoice(State(shop): State<Shop>, ApiPath(file): ApiPath<String>) -> Result<Response, Problem> {
    let order_no = file.strip_suffix(".pdf").and_then(|number| number.parse().ok());
    let order_no: i64 = order_no.ok_or_else(|| problems::order_not_found(&file))?;
    let order = orders::find(&mut *shop.database.reader().acquire().await?, order_no).await?;
    let document = pdf::document(&format!("Invoice {order_no}"), &time::rfc3339(time::now_ms()), &lines(&order));
    Ok(([(header::CONTENT_TYPE, "application/pdf")], document).into_response())
}

fn lines(OrderReply { order, lines }: &OrderReply) -> Vec<String> {
    let currency = &order.currency;
    let mut text = vec![
        "Old Mill Stores".to_owned(),
        format!("Invoice for order {} of {}", order.order_no, order.placed_on),
        String::new(),
    ];
    text.extend(lines.iter().map(|line| {
        let sum = Decimal(line.qty.saturating_mul(line.unit_cents));
        format!("{} x {} at {} {currency} = {sum} {currency}", line.qty, line.sku, Decimal(line.unit_cents))
    }));
    text.push(String::new());
    let sums = [
        ("Subtotal", order.subtotal_cents),
        ("Discount", -order.discount_cents),
        ("Tax", order.tax_cents),
        ("Total", order.total_cents),
    ];
    text.extend(sums.map(|(label, cents)| format!("{label}: {} {currency}", Decimal(cents))));
    text
}
