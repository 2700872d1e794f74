//! What every page is made of: amounts and the frame.

use std::fmt::{self, Display, Formatter};

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use crate::escaped::Escaped;

/// An amount for people, in a currency that has cents: `19.99 EUR`.
pub struct Money<'currency>(pub i64, pub &'currency str);

impl Display for Money<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Money(cents, currency) = *self;
        let sign = if cents < 0 { "-" } else { "" };
        let amount = cents.unsigned_abs();
        write!(out, "{sign}{}.{:02} {}", amount / 100, amount % 100, Escaped(currency))
    }
}

/// A whole page. `body` is markup: whatever it shows of a user's or a product's has been `Escaped`.
pub fn page(status: StatusCode, title: &str, visitor: Option<&str>, body: &str) -> Response {
    let title = Escaped(title);
    let account = match visitor {
        Some(name) => format!("<a href=\"/account\">{}</a>", Escaped(name)),
        None => "<a href=\"/login\">Log in</a>".to_owned(),
    };
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} · Old Mill Stores</title><style>{STYLE}</style></head><body>\
         <header><a class=\"brand\" href=\"/shop\">Old Mill Stores</a>\
         <nav><a href=\"/shop\">Shop</a><a href=\"/cart\">Cart</a>{account}</nav></header>\
         <main><h1>{title}</h1>{body}</main>\
         <footer>Old Mill Stores, serving the same page since 2009.</footer></body></html>\n"
    );
    (status, Html(html)).into_response()
}

const STYLE: &str = "\
*{box-sizing:border-box}body{margin:0;font:16px/1.5 system-ui,sans-serif;color:#26221c;background:#faf7f1}\
header{display:flex;justify-content:space-between;align-items:center;padding:.8rem 1.5rem;background:#4a3b28}\
header a{color:#f6ecda;text-decoration:none;margin-left:1.2rem}.brand{margin:0;font:600 1.25rem Georgia,serif}\
main{max-width:62rem;margin:0 auto;padding:1.5rem}h1{font:600 1.7rem Georgia,serif;margin:.2rem 0 1rem}\
a{color:#8a4b14}table{width:100%;border-collapse:collapse;background:#fff}\
th,td{padding:.5rem .7rem;border-bottom:1px solid #e8e0d2;text-align:left}td.n,th.n{text-align:right}\
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:1rem}\
.card{background:#fff;border:1px solid #e8e0d2;border-radius:6px;padding:1rem}.card b{display:block}\
.muted{color:#7a6f5f;font-size:.9rem}.note{background:#fdeacc;border-left:4px solid #c9822b;padding:.6rem 1rem}\
form{display:grid;gap:.7rem;max-width:24rem;margin:1rem 0}label{display:grid;gap:.2rem}\
input,select{font:inherit;padding:.45rem .6rem;border:1px solid #cfc4b2;border-radius:4px}\
button{font:inherit;padding:.55rem 1rem;border:0;border-radius:4px;background:#8a4b14;color:#fff;cursor:pointer}\
footer{padding:2rem;text-align:center;color:#7a6f5f;font-size:.85rem}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_shows_two_digits_of_cents_and_its_sign() {
        let shown = [0, 5, 1999, -250].map(|cents| Money(cents, "EUR").to_string());

        assert_eq!(shown, ["0.00 EUR", "0.05 EUR", "19.99 EUR", "-2.50 EUR"]);
    }
}
