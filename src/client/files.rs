//! The routes of files: their bytes, and their end.

use bytes::Bytes;
use http::Method;
use http::header::LOCATION;
use uuid::Uuid;

use super::api::Api;
use super::call::Call;
use super::transport::ApiError;

impl Api {
    /// The bytes of a file, from where the server sends whoever asks for them.
    pub(crate) async fn content(&self, file: Uuid) -> Result<Bytes, ApiError> {
        let asked = self.join(&format!("api/files/{file}/content"))?;
        let sent_on =
            self.transport.send(&asked, |client| Ok(client.get(asked.clone()).bearer_auth(&self.token))).await?;
        let status = sent_on.status();
        let location = sent_on.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(place) = location.filter(|_| status.is_redirection()).and_then(|place| asked.join(place).ok()) else {
            return Err(self.strange(&format!("it answers {status} to the question for a file's bytes")));
        };
        // Whoever gives the bytes needs no token: the address is signed.
        let answer = self.transport.send(&place, |client| Ok(client.get(place.clone()))).await?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|source| ApiError::Unreachable {
            url: place.origin().ascii_serialization(),
            source: source.without_url(),
        })?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(ApiError::Strange {
            url: place.origin().ascii_serialization(),
            what: format!("the file's bytes are a {status}"),
        })
    }

    /// Deletes a file's entry.
    pub(crate) async fn delete_file(&self, file: Uuid) -> Result<(), ApiError> {
        self.call(Call::of(Method::DELETE, &format!("api/files/{file}"))).await.map(drop)
    }
}
