//! The people who shop: reading one, and moving house.

use axum::extract::State;
use axum::routing::{get, patch};
use axum::{Json, Router};
use estate_chassis::dataset::vat;
use estate_chassis::problem::Problem;
use estate_chassis::service::{ApiJson, ApiPath};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::problems;
use crate::shop::Shop;

/// Longest line of an address, in characters.
const ADDRESS_LINE_MAX: usize = 120;

pub fn routes() -> Router<Shop> {
    Router::new().route("/api/v1/users/{id}", get(read)).route("/api/v1/users/{id}/address", patch(change_address))
}

/// A user as the API tells it. `name` is null for accounts from before names were asked for.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct User {
    pub id: i64,
    pub email: String,
    pub name: Option<String>,
    pub country: String,
    pub tier: String,
    pub blocked: bool,
}

/// Finds a user by number.
pub async fn find(connection: &mut SqliteConnection, id: i64) -> Result<User, Problem> {
    sqlx::query_as("SELECT id, email, name, country, tier, blocked FROM users WHERE id = ?")
        .bind(id)
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| problems::user_not_found(id))
}

async fn read(State(shop): State<Shop>, ApiPath(id): ApiPath<i64>) -> Result<Json<User>, Problem> {
    find(&mut *shop.database.reader().acquire().await?, id).await.map(Json)
}

/// What of an address is to change; what is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressChange {
    street: Option<String>,
    city: Option<String>,
    postcode: Option<String>,
    country: Option<String>,
}

#[derive(Debug, Default, Serialize, sqlx::FromRow)]
struct Address {
    user_id: i64,
    street: String,
    city: String,
    postcode: String,
    country: String,
}

impl AddressChange {
    fn apply(self, mut address: Address) -> Result<Address, Problem> {
        let changes = [
            ("street", self.street, &mut address.street),
            ("city", self.city, &mut address.city),
            ("postcode", self.postcode, &mut address.postcode),
            ("country", self.country, &mut address.country),
        ];
        for (field, change, kept) in changes {
            let Some(text) = change else { continue };
            if text.chars().count() > ADDRESS_LINE_MAX {
                return Err(problems::invalid_address(format!(
                    "{field} must have at most {ADDRESS_LINE_MAX} characters"
                )));
            }
            if field == "country" && vat::vat(&text).is_none() {
                return Err(Problem::unknown_country(&text));
            }
            *kept = text;
        }
        Ok(address)
    }
}

async fn change_address(
    State(shop): State<Shop>,
    ApiPath(id): ApiPath<i64>,
    ApiJson(change): ApiJson<AddressChange>,
) -> Result<Json<Address>, Problem> {
    let mut transaction = shop.database.begin().await?;
    let user = find(&mut transaction, id).await?;
    let before: Option<Address> =
        sqlx::query_as("SELECT * FROM addresses WHERE user_id = ?").bind(id).fetch_optional(&mut *transaction).await?;
    let before = before.unwrap_or_else(|| Address { user_id: id, country: user.country, ..Address::default() });
    let after = change.apply(before)?;
    sqlx::query(
        "INSERT INTO addresses (user_id, street, city, postcode, country) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (user_id) DO UPDATE SET
             street = excluded.street, city = excluded.city, postcode = excluded.postcode, country = excluded.country",
    )
    .bind(id)
    .bind(&after.street)
    .bind(&after.city)
    .bind(&after.postcode)
    .bind(&after.country)
    .execute(&mut *transaction)
    .await?;
    // The account's country decides its taxes, so it moves along.
    sqlx::query("UPDATE users SET country = ? WHERE id = ?")
        .bind(&after.country)
        .bind(id)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Json(after))
}
