"""A signature of an Azure account for everything below it, as part of a query."""

import datetime

from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas


def account_sas(account, key):
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    return generate_account_sas(
        account, key, ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True), end,
    )
