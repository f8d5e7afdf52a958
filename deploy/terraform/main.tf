# A private bucket and a role for causeway on EKS (IRSA): no key leaves AWS.
#
#   terraform apply -var bucket=telemetry -var namespace=files -var service_account=ftp-causeway \
#     -var oidc_provider_arn=arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

variable "bucket" {
  description = "Name of the bucket to make."
  type        = string
}

variable "prefix" {
  description = "Keys that causeway may touch begin with this; empty: all."
  type        = string
  default     = ""
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OIDC provider."
  type        = string
}

variable "namespace" {
  description = "Namespace of the Helm release."
  type        = string
}

variable "service_account" {
  description = "ServiceAccount of the Helm release."
  type        = string
}

locals {
  issuer = regex("oidc-provider/(.*)$", var.oidc_provider_arn)[0]
}

resource "aws_s3_bucket" "files" {
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "files" {
  bucket                  = aws_s3_bucket.files.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# What a killed process leaves: parts of uploads that nobody sees and everybody pays.
resource "aws_s3_bucket_lifecycle_configuration" "files" {
  bucket = aws_s3_bucket.files.id
  rule {
    id     = "uploads-of-killed-processes"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${var.service_account}"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

# The same policy as deploy/policies/s3.json.
resource "aws_iam_role" "causeway" {
  name               = "causeway-${var.bucket}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "files" {
  name = "files"
  role = aws_iam_role.causeway.id
  policy = replace(
    replace(file("${path.module}/../policies/s3.json"), "BUCKET", var.bucket),
    "PREFIX", var.prefix,
  )
}

output "role_arn" {
  description = "For serviceAccount.annotations[\"eks.amazonaws.com/role-arn\"]."
  value       = aws_iam_role.causeway.arn
}
