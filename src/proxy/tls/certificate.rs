//! What a certificate says: names, end, subject. It has been checked, or is our own; here it is only read.

use strangler_core::subject::{Attribute, AttributeValue, distinguished_name};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What is needed of one of ours.
pub(super) struct Known {
    /// DNS names that it is for.
    pub(super) names: Vec<String>,
    /// From when until when it is good, in Unix seconds.
    pub(super) life: std::ops::RangeInclusive<i64>,
}

pub(super) fn known_of(der: &CertificateDer<'_>) -> Option<Known> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None });
    let validity = certificate.validity();
    Some(Known { names: names.collect(), life: validity.not_before.timestamp()..=validity.not_after.timestamp() })
}

/// The subject of a client's certificate, which has been checked, as a header's value.
pub(crate) fn subject_of(der: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    // Twice: a part of a name borrows its number's text.
    let oids: Vec<Vec<String>> = certificate
        .subject()
        .iter_rdn()
        .map(|part| part.iter().map(|attribute| attribute.attr_type().to_id_string()).collect())
        .collect();
    let parts: Vec<Vec<Attribute<'_>>> = certificate
        .subject()
        .iter_rdn()
        .zip(&oids)
        .map(|(part, oids)| {
            let attributes = part.iter().zip(oids);
            let attributes = attributes.map(|(attribute, oid)| Attribute {
                oid,
                value: attribute
                    .as_str()
                    .map_or_else(|_| AttributeValue::Bytes(attribute.as_slice()), AttributeValue::Text),
            });
            attributes.collect()
        })
        .collect();
    distinguished_name(&parts)
}
