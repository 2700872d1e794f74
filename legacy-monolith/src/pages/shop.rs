//! Browsing: the list of what is sold, and one article.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use estate_chassis::contract::ListQuery;
use estate_chassis::dataset::catalogue::CATEGORIES;
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiPath, ApiQuery};

use super::PageResult;
use super::html::Money;
use super::html::page;
use super::see_other;
use crate::catalog;
use crate::escaped::Escaped;
use crate::sessions;
use crate::shop::Shop;

pub(super) fn routes() -> Router<Shop> {
    Router::new()
        .route("/", get(front_door))
        .route("/shop", get(home))
        .route("/shop/", get(home))
        .route("/shop/products/{sku}", get(article))
}

async fn front_door() -> Response {
    see_other("/shop")
}

async fn home(State(shop): State<Shop>, headers: HeaderMap, query: Result<ApiQuery<ListQuery>, Problem>) -> PageResult {
    let ApiQuery(query) = query?;
    let session = sessions::current(&shop, &headers).await?;
    let mut connection = shop.database.reader().acquire().await?;
    let found = catalog::page_of(&mut connection, query.category(), query.page()?).await?;
    let mut body = String::from("<p><a href=\"/shop\">everything</a>");
    // Writing to a string cannot fail, here and below.
    for category in CATEGORIES {
        let _ = write!(body, " · <a href=\"/shop?category={category}\">{category}</a>");
    }
    body.push_str("</p><div class=\"grid\">");
    for product in &found.items {
        let _ = write!(
            body,
            "<div class=\"card\"><b><a href=\"/shop/products/{sku}\">{name}</a></b>{price}\
             <div class=\"muted\">{category}</div></div>",
            sku = Escaped(&product.sku),
            name = Escaped(product.name.as_deref().unwrap_or(&product.sku)),
            price = Money(product.unit_cents, &product.currency),
            category = Escaped(&product.category),
        );
    }
    body.push_str("</div><p>");
    let filter = query.category().map(|it| format!("&amp;category={}", Escaped(it))).unwrap_or_default();
    if found.page > 1 {
        let _ = write!(body, "<a href=\"/shop?page={}{filter}\">← back</a> ", found.page - 1);
    }
    if found.page * found.per_page < found.total {
        let _ = write!(body, "<a href=\"/shop?page={}{filter}\">more →</a>", found.page + 1);
    }
    let _ = write!(body, "</p><p class=\"muted\">{} articles</p>", found.total);
    let name = session.as_ref().map(sessions::Session::display_name);
    Ok(page(StatusCode::OK, "Everything for the house", name, &body))
}

async fn article(State(shop): State<Shop>, headers: HeaderMap, ApiPath(sku): ApiPath<String>) -> PageResult {
    let session = sessions::current(&shop, &headers).await?;
    let mut connection = shop.database.reader().acquire().await?;
    let product = catalog::find(&mut connection, &sku).await?;
    let name = product.name.as_deref().unwrap_or(&product.sku);
    let visitor = session.as_ref().map(sessions::Session::display_name);
    let sku = Escaped(&product.sku);
    let mut body = format!(
        "<p class=\"muted\">{sku} · {}</p><p><b>{}</b> without tax</p>",
        Escaped(&product.category),
        Money(product.unit_cents, &product.currency)
    );
    for tier in &product.tiers {
        let _ =
            write!(body, "<p>{} each from {} units on</p>", Money(tier.unit_cents, &product.currency), tier.min_qty);
    }
    if !product.active {
        body.push_str("<p class=\"note\">This article is no longer sold.</p>");
        return Ok(page(StatusCode::OK, name, visitor, &body));
    }
    let _ = write!(
        body,
        "<form method=\"post\" action=\"/cart\"><input type=\"hidden\" name=\"sku\" value=\"{sku}\">\
         <label>How many <input name=\"qty\" type=\"number\" min=\"1\" max=\"99\" value=\"1\"></label>\
         <button>Put into the cart</button></form>"
    );
    Ok(page(StatusCode::OK, name, visitor, &body))
}
