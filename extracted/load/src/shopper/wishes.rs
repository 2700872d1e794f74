//! The requests that a customer can make.

use bytes::Bytes;
use estate_chassis::dataset::carts::WORKED_CART;
use estate_chassis::dataset::catalogue::{CATEGORIES, TIER_MIN_QTY};
use estate_chassis::dataset::orders::ORDERS;
use estate_chassis::dataset::vat::COUNTRIES;
use hyper::Method;
use serde_json::{Value, json};

use super::{Call, Meaning, Part, Shop, Shopper};

impl Shopper {
    pub(super) fn browse(&mut self, shop: &Shop) -> Call {
        let sku = shop.sku(&mut self.prng).to_owned();
        match self.prng.below(1_000) {
            0..300 => get(Part::Browse, format!("/api/v1/products/{sku}")),
            300..660 => get(Part::Browse, self.price(&sku)),
            660..840 => get(Part::Browse, self.listing()),
            840..900 => get(Part::Browse, "/shop".to_owned()),
            900..960 => get(Part::Browse, format!("/shop/products/{sku}")),
            960..990 => get(Part::Browse, format!("/api/v1/inventory/{sku}")),
            990..997 => get(Part::Browse, "/api/v1/products/SKU-9999".to_owned()),
            _ => self.old_corner(),
        }
    }

    pub(super) fn fill_or_look(&mut self, shop: &Shop) -> Call {
        if self.prng.percent(30) { self.add_item(shop) } else { self.total(shop) }
    }

    pub(super) fn check_out(&mut self, shop: &Shop) -> Call {
        match self.prng.below(100) {
            0..35 => self.pay(shop),
            35..75 if self.has_items => self.buy(shop),
            35..75 => self.add_item(shop),
            _ => self.next_form(shop),
        }
    }

    pub(super) fn account(&mut self, shop: &Shop) -> Call {
        let id = self.id;
        match self.prng.below(100) {
            0..40 => get(Part::Account, format!("/api/v1/users/{id}")),
            40..65 => get(Part::Account, format!("/api/v1/users/{id}/orders")),
            65..85 => {
                let order_no = self.prng.between(1, i64::from(ORDERS));
                get(Part::Account, format!("/api/v1/orders/{order_no}"))
            }
            85..92 => {
                let street = format!("{} Mill Lane", self.prng.between(1, 99));
                let path = format!("/api/v1/users/{id}/address");
                let call = post_json(Part::Account, path, &json!({"street": street}), Meaning::Nothing);
                Call { method: Method::PATCH, ..call }
            }
            _ if self.is_logged_in => get(Part::Account, "/account".to_owned()),
            _ if self.is_refused => get(Part::Account, "/login".to_owned()),
            _ => self.log_in(shop, Part::Account),
        }
    }

    fn price(&mut self, sku: &str) -> String {
        let qty = match self.prng.below(100) {
            0..80 => 1,
            80..94 => self.prng.between(2, 9),
            94..97 => TIER_MIN_QTY,
            _ => self.prng.between(11, 30),
        };
        let currency = match self.prng.below(100) {
            0..60 => "",
            60..85 => "&currency=EUR",
            85..94 => "&currency=USD",
            _ => "&currency=JPY",
        };
        format!("/api/v1/products/{sku}/price?qty={qty}{currency}")
    }

    fn listing(&mut self) -> String {
        let page = [1, 1, 1, 2, 2, 3][self.prng.index(6)];
        if self.prng.percent(60) {
            let category = CATEGORIES[self.prng.index(CATEGORIES.len())];
            format!("/api/v1/products?category={category}&page={page}")
        } else {
            format!("/api/v1/products?page={page}")
        }
    }

    /// What only the monolith has, and hardly anybody asks for.
    fn old_corner(&mut self) -> Call {
        let order_no = self.prng.between(1, i64::from(ORDERS));
        match self.prng.below(100) {
            0..30 => {
                let call = get(Part::Browse, "/products.xml".to_owned());
                with_header(call, "user-agent", "PartnerFeed/2.1 (price comparison)")
            }
            30..65 => {
                let envelope = format!(
                    "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
                     <o:GetOrder xmlns:o=\"urn:oldmill:orders:1\"><o:orderNo>{order_no}</o:orderNo></o:GetOrder>\
                     </s:Body></s:Envelope>"
                );
                let call = post(Part::Browse, "/soap/OrderService".to_owned(), "text/xml", envelope, Meaning::Nothing);
                with_header(call, "user-agent", "order-batch/1.0")
            }
            65..95 => get(Part::Browse, format!("/invoices/{order_no}.pdf")),
            _ => get(Part::Browse, "/admin/reports/daily.csv".to_owned()),
        }
    }

    /// Totals are asked for carts that both sides know. One in ten is the worked one.
    fn total(&mut self, shop: &Shop) -> Call {
        if self.prng.percent(10) {
            return get(Part::Cart, format!("/api/v1/carts/{WORKED_CART}/total?coupon=SAVE10&country=DE"));
        }
        let cart = shop.seeded_cart(&mut self.prng);
        let coupon = match self.prng.below(100) {
            0..50 => "",
            50..85 => "coupon=SAVE10&",
            85..96 => "coupon=SAVE15&",
            96..99 => "coupon=EXPIRED5&",
            _ => "coupon=SAVE99&",
        };
        let country = if self.prng.percent(50) { "DE" } else { COUNTRIES[self.prng.index(COUNTRIES.len())].country };
        get(Part::Cart, format!("/api/v1/carts/{cart}/total?{coupon}country={country}"))
    }

    fn add_item(&mut self, shop: &Shop) -> Call {
        let sku = shop.sku(&mut self.prng).to_owned();
        let qty = [1, 1, 1, 2, 3][self.prng.index(5)];
        let path = format!("/api/v1/carts/{}/items", self.cart(shop));
        post_json(Part::Cart, path, &json!({"sku": sku, "qty": qty, "user_id": self.id}), Meaning::AddItem)
    }

    fn pay(&mut self, shop: &Shop) -> Call {
        let key = self.key(shop);
        let body = json!({
            "order_ref": key,
            "amount_cents": self.prng.between(500, 40_000),
            "currency": "EUR",
            "card_token": self.card(),
        });
        let call = post_json(Part::Checkout, "/api/v1/payments".to_owned(), &body, Meaning::Nothing);
        Call { is_submit: true, ..with_header(call, "idempotency-key", &key) }
    }

    fn buy(&mut self, shop: &Shop) -> Call {
        let key = self.key(shop);
        let country = shop.users.get(self.id as usize - 1).map_or("DE", |user| user.country);
        let body = json!({
            "user_id": self.id,
            "cart_id": self.cart(shop),
            "card_token": self.card(),
            "ship_to": {"street": "1 Mill Lane", "country": country},
        });
        let call = post_json(Part::Checkout, "/api/v1/checkout".to_owned(), &body, Meaning::Buy);
        Call { is_submit: true, ..with_header(call, "idempotency-key", &key) }
    }

    fn card(&mut self) -> &'static str {
        match self.prng.below(1_000) {
            0..957 => "tok_visa",
            957..997 => "tok_declined",
            _ => "tok_slow_8s",
        }
    }

    /// The way by forms, one step further: log in, fill the basket, take the form, send it.
    fn next_form(&mut self, shop: &Shop) -> Call {
        if self.is_refused {
            return self.pay(shop);
        }
        if !self.is_logged_in {
            return self.log_in(shop, Part::Checkout);
        }
        if !self.has_basket {
            let body = format!("sku={}&qty=1", shop.sku(&mut self.prng));
            return post_form(Part::Checkout, "/cart", body, Meaning::FillBasket);
        }
        let Some(csrf) = &self.csrf else {
            return Call { meaning: Meaning::CheckoutForm, ..get(Part::Checkout, "/checkout".to_owned()) };
        };
        let body = format!("_csrf={}&card_token=tok_visa&coupon=", form_text(csrf));
        Call { is_submit: true, ..post_form(Part::Checkout, "/checkout", body, Meaning::SubmitForm) }
    }

    fn log_in(&mut self, shop: &Shop, part: Part) -> Call {
        let user = shop.users.get(self.id as usize - 1);
        let (email, password) = user.map_or(("", ""), |user| (user.email.as_str(), user.password.as_str()));
        let body = format!("email={}&password={}", form_text(email), form_text(password));
        post_form(part, "/login", body, Meaning::LogIn)
    }
}

fn get(part: Part, path: String) -> Call {
    Call {
        part,
        method: Method::GET,
        path,
        headers: Vec::new(),
        body: Bytes::new(),
        is_submit: false,
        meaning: Meaning::Nothing,
    }
}

fn post(part: Part, path: String, content_type: &str, body: String, meaning: Meaning) -> Call {
    let call = Call { method: Method::POST, body: body.into(), meaning, ..get(part, path) };
    with_header(call, "content-type", content_type)
}

fn post_json(part: Part, path: String, body: &Value, meaning: Meaning) -> Call {
    post(part, path, "application/json", body.to_string(), meaning)
}

fn post_form(part: Part, path: &str, body: String, meaning: Meaning) -> Call {
    post(part, path.to_owned(), "application/x-www-form-urlencoded", body, meaning)
}

fn with_header(mut call: Call, name: &'static str, value: &str) -> Call {
    call.headers.push((name, value.to_owned()));
    call
}

/// Percent-encodes what a form may not hold bare.
fn form_text(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_text_is_percent_encoded() {
        assert_eq!(form_text("Anna.Groß+1@Example.org"), "Anna.Gro%C3%9F%2B1%40Example.org");
        assert_eq!(form_text("\u{0}\u{11}%%"), "%00%11%25%25");
    }
}
