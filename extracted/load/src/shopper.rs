//! One customer: what comes next, and what is remembered of the answers. No sockets and no clock here.

mod wishes;

use bytes::Bytes;
use estate_chassis::dataset::carts::{CARTS, FIRST_CART, FIRST_FREE_CART};
use estate_chassis::dataset::users::{User, users};
use estate_chassis::dataset::zipf::Zipf;
use estate_chassis::prng::Prng;
use hyper::Method;
use hyper::header::SET_COOKIE;

use crate::target::Answer;

/// What all customers choose from.
#[derive(Debug)]
pub struct Shop {
    users: Vec<User>,
    /// By how often they are looked at.
    skus: Vec<String>,
    by_rank: Zipf,
    carts: Zipf,
    /// Sets this run apart from earlier ones: carts and keys of then are not met again.
    run: u64,
}

impl Shop {
    /// `run` is a number that no earlier run had, e.g. the seconds since 1970.
    pub fn new(run: u64) -> Shop {
        let mut products = estate_chassis::dataset::catalogue::products();
        Prng::new(run_free_seed()).shuffle(&mut products);
        // What is no longer sold is hardly looked at.
        products.sort_by_key(|product| !product.active);
        let skus = products.into_iter().map(|product| product.sku).collect();
        let carts = u32::try_from(CARTS).unwrap_or(1);
        Shop { users: users(), by_rank: Zipf::new(400, 0.8), carts: Zipf::new(carts, 0.5), skus, run }
    }

    fn sku(&self, prng: &mut Prng) -> &str {
        self.skus.get(self.by_rank.draw(prng)).map_or("SKU-1042", String::as_str)
    }

    fn seeded_cart(&self, prng: &mut Prng) -> u64 {
        FIRST_CART + self.carts.draw(prng) as u64
    }
}

/// Which articles are popular is the same in every run.
fn run_free_seed() -> u64 {
    estate_chassis::dataset::SEED ^ 0xB0A7
}

/// The four parts of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Browse,
    Cart,
    Checkout,
    Account,
}

impl Part {
    /// 70, 20, 7 and 3 of 100.
    pub fn draw(prng: &mut Prng) -> Part {
        match prng.below(100) {
            0..70 => Part::Browse,
            70..90 => Part::Cart,
            90..97 => Part::Checkout,
            _ => Part::Account,
        }
    }
}

/// One request to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    pub part: Part,
    pub method: Method,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// A click that pays: 3 of 100 of these are clicked twice.
    pub is_submit: bool,
    meaning: Meaning,
}

/// What the answer will change for the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    AddItem,
    Buy,
    LogIn,
    FillBasket,
    CheckoutForm,
    SubmitForm,
}

/// A customer and what the shop has said so far.
#[derive(Debug)]
pub struct Shopper {
    id: u32,
    prng: Prng,
    /// Carts are given up when the shop will not sell what is in them.
    carts_given_up: u64,
    has_items: bool,
    keys: u64,
    /// `name=value` pairs.
    cookies: Vec<(String, String)>,
    is_logged_in: bool,
    /// Refused once: a blocked customer does not try again.
    is_refused: bool,
    has_basket: bool,
    csrf: Option<String>,
}

/// Cookies of one customer; more are forgotten.
const COOKIES_MAX: usize = 20;

impl Shopper {
    pub fn new(id: u32, seed: u64) -> Shopper {
        Shopper {
            id,
            prng: Prng::new(seed ^ (u64::from(id) << 32)),
            carts_given_up: 0,
            has_items: false,
            keys: 0,
            cookies: Vec::new(),
            is_logged_in: false,
            is_refused: false,
            has_basket: false,
            csrf: None,
        }
    }

    /// The `Cookie` header, if there is anything to say.
    pub fn cookie(&self) -> Option<String> {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where the customer is: an address of the network 10.0.0.0/8.
    pub fn address(&self) -> String {
        let [_, high, middle, low] = self.id.to_be_bytes();
        format!("10.{high}.{middle}.{low}")
    }

    /// Draws what the customer does now.
    pub fn next(&mut self, part: Part, shop: &Shop) -> Call {
        match part {
            Part::Browse => self.browse(shop),
            Part::Cart => self.fill_or_look(shop),
            Part::Checkout => self.check_out(shop),
            Part::Account => self.account(shop),
        }
    }

    /// Remembers what the answer means. `None`: it never came, so nothing is sure any more.
    pub fn learn(&mut self, call: &Call, answer: Option<&Answer>) {
        let Some(answer) = answer else {
            self.forget(call);
            return;
        };
        self.keep_cookies(answer);
        let is_ok = answer.status < 300;
        match call.meaning {
            Meaning::Nothing => (),
            Meaning::AddItem => self.has_items |= is_ok,
            Meaning::Buy => {
                self.has_items = false;
                // Sold out, blocked, declined: the same cart would only be refused again.
                self.carts_given_up += u64::from(!is_ok);
            }
            Meaning::LogIn => {
                self.is_logged_in = answer.status == 303;
                self.is_refused = matches!(answer.status, 401 | 403);
            }
            Meaning::FillBasket => self.has_basket = answer.status == 303 && !leads_to_login(answer),
            Meaning::CheckoutForm => {
                self.csrf = csrf_of(&answer.body);
                self.is_logged_in &= !leads_to_login(answer);
            }
            Meaning::SubmitForm => {
                self.csrf = None;
                self.has_basket = false;
            }
        }
    }

    fn forget(&mut self, call: &Call) {
        match call.meaning {
            Meaning::Nothing | Meaning::AddItem | Meaning::LogIn | Meaning::FillBasket => (),
            Meaning::Buy => {
                self.has_items = false;
                self.carts_given_up += 1;
            }
            Meaning::CheckoutForm | Meaning::SubmitForm => self.csrf = None,
        }
    }

    /// Kept whatever `Path` and `Domain` say: the shop scopes its cookie to a host and a path that only a rewriting proxy would
    /// make right, and a customer without a session would never see the forms.
    fn keep_cookies(&mut self, answer: &Answer) {
        for value in answer.headers.get_all(SET_COOKIE) {
            let pair = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.retain(|(kept, _)| kept != name.trim());
                self.cookies.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        while self.cookies.len() > COOKIES_MAX {
            self.cookies.remove(0);
        }
    }

    fn cart(&self, shop: &Shop) -> u64 {
        // 10,000 apart: room for every customer, and a new cart after each that was given up.
        FIRST_FREE_CART + (shop.run + self.carts_given_up) * 10_000 + u64::from(self.id)
    }

    fn key(&mut self, shop: &Shop) -> String {
        self.keys += 1;
        format!("load-{:x}-{}-{}", shop.run, self.id, self.keys)
    }
}

fn leads_to_login(answer: &Answer) -> bool {
    let location = answer.headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
    location.ends_with("/login")
}

/// The value of the hidden field of the form.
fn csrf_of(page: &[u8]) -> Option<String> {
    let page = std::str::from_utf8(page).ok()?;
    let (_, after) = page.split_once("name=\"_csrf\" value=\"")?;
    after.split_once('"').map(|(token, _)| token.to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{HeaderValue, LOCATION};

    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }
    }

    /// Lets a customer do only this until it is about to send a request that starts so.
    fn until(shopper: &mut Shopper, shop: &Shop, part: Part, start: &str, reply: impl Fn(&Call) -> Answer) -> Call {
        for _ in 0..1_000 {
            let call = shopper.next(part, shop);
            if format!("{} {}", call.method, call.path).starts_with(start) {
                return call;
            }
            let reply = reply(&call);
            shopper.learn(&call, Some(&reply));
        }
        panic!("never came to {start}");
    }

    #[test]
    fn the_profile_is_met() {
        let mut prng = Prng::new(5);
        let mut counts = [0_u32; 4];
        for _ in 0..100_000 {
            counts[Part::draw(&mut prng) as usize] += 1;
        }
        for (count, percent) in counts.into_iter().zip([70, 20, 7, 3]) {
            assert!(count.abs_diff(percent * 1_000) < 500, "{counts:?}");
        }
    }

    #[test]
    fn a_customer_logs_in_fills_the_basket_takes_the_form_and_sends_its_token_once() {
        let shop = Shop::new(1);
        let mut shopper = Shopper::new(7, 1);
        let reply = |call: &Call| {
            let mut reply = match call.path.as_str() {
                "/login" | "/cart" => answer(303, ""),
                "/checkout" => answer(200, "<input type=\"hidden\" name=\"_csrf\" value=\"t0k\">"),
                _ => answer(201, "{}"),
            };
            let cookie = HeaderValue::from_static("SHOPSID=abc; Path=/shop; Domain=legacy.internal");
            reply.headers.insert(SET_COOKIE, cookie);
            reply
        };

        let form = until(&mut shopper, &shop, Part::Checkout, "POST /checkout", reply);

        assert!(form.is_submit && form.body.starts_with(b"_csrf=t0k&"));
        assert_eq!(shopper.cookie().as_deref(), Some("SHOPSID=abc"));
        shopper.learn(&form, Some(&answer(200, "")));
    }

    #[test]
    fn a_refused_cart_is_given_up_and_a_lost_session_is_noticed() {
        let shop = Shop::new(1);
        let mut shopper = Shopper::new(7, 1);
        let first = shopper.cart(&shop);
        let buy = until(&mut shopper, &shop, Part::Checkout, "POST /api/v1/checkout", |_| answer(200, "{}"));
        shopper.learn(&buy, Some(&answer(409, "{}")));
        assert_ne!(shopper.cart(&shop), first);

        shopper.is_logged_in = true;
        let mut lost = answer(303, "");
        lost.headers.insert(LOCATION, HeaderValue::from_static("/login"));
        let form = Call { meaning: Meaning::CheckoutForm, ..buy };
        shopper.learn(&form, Some(&lost));
        assert!(!shopper.is_logged_in);
    }

    #[test]
    fn the_same_seed_draws_the_same_wishes() {
        let shop = Shop::new(1);
        let paths = |seed| {
            let mut shopper = Shopper::new(3, seed);
            (0..50).map(|_| shopper.next(Part::Browse, &shop).path).collect::<Vec<_>>()
        };
        assert_eq!(paths(1), paths(1));
        assert_ne!(paths(1), paths(2));
    }
}
